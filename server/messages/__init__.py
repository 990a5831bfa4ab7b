"""Messages: the batch writer, receipts, reading."""
