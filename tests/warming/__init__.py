"""A client with a long system text, and what the proxy said of its requests."""
