"""Verbs of the ground floor: people, quotas, operations, events. Import the modules by name."""
