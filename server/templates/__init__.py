"""Templates: messages that providers approve beforehand, kept as the providers have them."""
