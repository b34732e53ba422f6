"""Rows of the containers' app, one noun a file."""

from workspaces.models.assignment import Assignment, ForeignUse
from workspaces.models.container import Container
from workspaces.models.device import Device
from workspaces.models.folder import SharedFolder
from workspaces.models.machine import Machine

__all__ = ["Assignment", "Container", "Device", "ForeignUse", "Machine", "SharedFolder"]
