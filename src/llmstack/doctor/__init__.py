"""Checks of this machine and this stack: facts are gathered, judged as data, and rendered elsewhere."""
