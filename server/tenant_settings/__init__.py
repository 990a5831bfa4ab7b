"""How the whole tenant works."""
