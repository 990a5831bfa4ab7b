"""What has no domain words: databases, errors, ids, clocks, keys, logging."""
