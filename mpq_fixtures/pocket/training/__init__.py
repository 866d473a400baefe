"""How the embedded models and data are made; nothing here runs in an evaluation."""
