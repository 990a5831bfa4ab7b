"""`switchboard demo`: the stack with simulated customers and agents, and a terminal that shows what happens."""
