"""Pictograms of the open emoji and icon sets, with their names and keywords in over 100 languages."""
