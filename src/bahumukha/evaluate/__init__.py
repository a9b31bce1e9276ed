"""How good a model is, one file a model: every figure in a card comes from here."""
