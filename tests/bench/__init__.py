"""Measures the hot paths, each beside a reference in the same run: `make bench`."""
