"""Verbs on containers, devices, folders and the machine. Import the modules by name."""
