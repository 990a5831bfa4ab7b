"""Connected accounts of providers."""
