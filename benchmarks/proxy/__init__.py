"""What the proxy costs."""
