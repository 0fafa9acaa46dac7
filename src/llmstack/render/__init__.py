"""Results to text or JSON. The only package that prints."""
