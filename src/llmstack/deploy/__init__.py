"""Brings a plan to life: services, readiness, health, and the way back when something fails."""
