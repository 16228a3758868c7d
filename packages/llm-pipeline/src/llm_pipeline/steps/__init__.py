"""The steps, one module per kind of work."""
