"""Every table, one aggregate per file: the control database's in control, a tenant's in tenant."""
