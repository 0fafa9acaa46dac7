"""Measures the running stack, engine and proxy, and keeps what it measured."""
