"""Drawings and cut-out photographs with captions: the Open Clip Art Library and the stamps of Tux Paint."""
