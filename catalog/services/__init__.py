"""Verbs of the catalogue. Import the modules by name."""
