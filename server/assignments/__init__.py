"""Who has which conversation, and the ledger of who had it."""
