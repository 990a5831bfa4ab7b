"""What attributes of conversations and contacts may hold: definitions per tenant, and the check of values."""
