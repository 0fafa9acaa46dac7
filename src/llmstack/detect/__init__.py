"""Reads what this machine is and what a model file holds."""
