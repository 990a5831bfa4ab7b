"""Providers: the networks customers write from. `contract` is what the rest of the server knows of them."""
