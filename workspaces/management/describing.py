"""How commands show containers: JSON for scripts, lines for people. Reads only."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from ds01portal.models import Operation
from workspaces.models import Assignment, Container, Device, Machine


def devices_of(containers: Iterable[Container]) -> dict[uuid.UUID, list[Device]]:
    """Return container id → devices it holds, in numeric order, with one query."""
    found: dict[uuid.UUID, list[Device]] = defaultdict(list)
    rows = Assignment.objects.live().filter(container__in=list(containers))
    for row in sorted(rows.select_related("device"), key=lambda row: row.device.order):
        found[row.container_id].append(row.device)
    return found


def latest_operation(container: Container) -> Operation | None:
    """Return what was asked of a container last, ended or not."""
    rows = Operation.objects.filter(subject_kind="container", subject_id=str(container.pk))
    return rows.order_by("-created_at").first()


def describe_device(device: Device) -> dict[str, Any]:
    """Return the JSON form of a device."""
    return {
        "uuid": device.uuid,
        "label": device.label,
        "model": device.model,
        "profile": device.profile or None,
        "simulated": device.simulated,
    }


def describe_operation(operation: Operation | None) -> dict[str, Any] | None:
    """Return the JSON form of an operation."""
    if operation is None:
        return None
    return {
        "id": str(operation.pk),
        "kind": operation.kind,
        "state": operation.state,
        "phase": operation.phase,
        "percent": operation.percent,
        "message": operation.message,
    }


def describe_container(container: Container, devices: list[Device] | None = None) -> dict[str, Any]:
    """Return the JSON form of a container with its devices."""
    held = devices_of([container])[container.pk] if devices is None else devices
    return {**container.as_dict(), "devices": [describe_device(device) for device in held]}


def describe_engine() -> dict[str, Any]:
    """Return whether the engine answers: while it does not, states are those last seen."""
    machine = Machine.current()
    since = machine.unreachable_since
    return {
        "reachable": machine.reachable,
        "unreachable_since": since.isoformat() if since else None,
    }


def device_words(devices: Iterable[Device]) -> str:
    """Return devices for people: "GPU 0, GPU 1 (simulated)"."""
    rows = list(devices)
    if not rows:
        return "no GPU"
    simulated = " (simulated)" if any(device.simulated for device in rows) else ""
    return ", ".join(device.label for device in rows) + simulated


def container_line(container: Container, devices: Iterable[Device]) -> str:
    """Return one line for people."""
    owner = container.owner.username if container.owner else "-"
    return (
        f"{owner:<16} {container.name:<24} {container.state:<11} "
        f"{container.image_label:<28} {device_words(devices)}"
    )
