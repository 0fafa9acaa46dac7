"""Figures for docs/bench.md: scripts, not tests; each prints a table and says how it was measured."""
