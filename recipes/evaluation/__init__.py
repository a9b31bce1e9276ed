"""How the fixed lists that models are scored against were made."""
