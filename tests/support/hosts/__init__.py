"""Clouds, the hub and servers that cannot be had here, as loopback servers that behave as their documentation says."""
