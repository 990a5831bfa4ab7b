"""The journal: raw payloads of providers, and what became of each item in them."""
