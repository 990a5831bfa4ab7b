"""The control database: tenants, their placement and databases, keys, routes, and the directory of work."""
