"""Admin of containers, devices, assignments, shared folders and the machine."""

from workspaces.admin.assignments import AssignmentAdmin, ForeignUseAdmin
from workspaces.admin.containers import ContainerAdmin
from workspaces.admin.devices import DeviceAdmin
from workspaces.admin.folders import SharedFolderAdmin
from workspaces.admin.machine import MachineAdmin

__all__ = [
    "AssignmentAdmin",
    "ContainerAdmin",
    "DeviceAdmin",
    "ForeignUseAdmin",
    "MachineAdmin",
    "SharedFolderAdmin",
]
