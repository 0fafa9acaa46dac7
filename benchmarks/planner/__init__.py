"""The planner: its memory against llama-server's own report, its choices against others, its time."""
