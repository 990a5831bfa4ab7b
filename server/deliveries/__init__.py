"""Deliveries: what is to be handed to providers, claimed with a lease."""
