"""Bench runs made up for tests."""
