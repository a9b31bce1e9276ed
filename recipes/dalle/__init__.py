"""How `starter/dalle` is made: what it is trained on, beyond the pictograms and scenes of other recipes."""
