"""What warm start saves."""
