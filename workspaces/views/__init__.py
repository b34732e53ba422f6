"""Pages of containers, machine and limits, one noun a module. They call services, never engines."""

from workspaces.views.containers import (
    container_card,
    container_list,
    container_progress,
    container_verb,
)
from workspaces.views.dependency_files import dependency_file, dependency_files
from workspaces.views.detail import (
    container_connect,
    container_detail,
    container_settings,
    container_terminal,
)
from workspaces.views.launch import container_launch, launch_preflight
from workspaces.views.logs import container_log_download, container_log_lines, container_logs
from workspaces.views.machine import limits_view, machine_view
from workspaces.views.usage import container_bars, container_usage

__all__ = [
    "container_bars",
    "container_card",
    "container_connect",
    "container_detail",
    "container_launch",
    "container_list",
    "container_log_download",
    "container_log_lines",
    "container_logs",
    "container_progress",
    "container_settings",
    "container_terminal",
    "container_usage",
    "container_verb",
    "dependency_file",
    "dependency_files",
    "launch_preflight",
    "limits_view",
    "machine_view",
]
