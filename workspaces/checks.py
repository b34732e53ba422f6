"""System checks of the containers' app."""

from __future__ import annotations

import ipaddress
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from workspaces.gpus import get_inventory


def check_gpu_setting(**_kwargs: Any) -> list[CheckMessage]:
    """Tell when DS01_GPUS cannot be read."""
    try:
        get_inventory(settings.DS01_GPUS)
    except ValueError as error:
        return [
            Error(
                f"DS01_GPUS cannot be read: {error}",
                hint="Write nvml, none, or simulated:4xA100-40GB,1xH100-80GB:3g.40gb+4g.40gb.",
                id="workspaces.E001",
            )
        ]
    return []


def check_network_range(**_kwargs: Any) -> list[CheckMessage]:
    """Tell when the address range for users' networks makes no sense."""
    try:
        network = ipaddress.ip_network(settings.DS01_NETWORK_RANGE)
        good = network.version == 4 and network.prefixlen < settings.DS01_NETWORK_PREFIX <= 29
    except ValueError:
        good = False
    if good:
        return []
    return [
        Error(
            f"DS01_NETWORK_RANGE={settings.DS01_NETWORK_RANGE} with DS01_NETWORK_PREFIX="
            f"{settings.DS01_NETWORK_PREFIX} gives no networks.",
            hint="Write a private IPv4 range such as 10.213.0.0/16 and a prefix such as 27.",
            id="workspaces.E002",
        )
    ]


def register_checks() -> None:
    """Register the checks of this module."""
    register(check_gpu_setting)
    register(check_network_range)
