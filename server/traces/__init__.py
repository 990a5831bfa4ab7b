"""The trace contexts of rows whose work goes on later, or in another process."""
