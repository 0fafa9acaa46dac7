"""Fixtures that every part of the suite may use."""

pytest_plugins = ["built_engine"]
