"""Request ids: a repeated call answers the first result (AIP-155)."""
