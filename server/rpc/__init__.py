"""gRPC plumbing that knows no slice: the edge, errors, credentials, validation, paging."""
