"""The object store: one client, one form of URI, one table of errors."""
