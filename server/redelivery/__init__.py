"""What an operator sees of deliveries, and decides about those that got stuck."""
