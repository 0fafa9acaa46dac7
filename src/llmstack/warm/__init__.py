"""Warm start, the decisions: where a prefix ends, which saved state helps, what the cache lost and why. Pure."""
