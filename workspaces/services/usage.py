"""How much a container and the machine use at this moment, for the pages.

Nothing is kept here: a processor rate needs two readings, so a page hands the token of its last
reading back. Unknown is None and never zero; an engine that does not answer gives an answer
without figures, not an error. Not in charge of: limits, policies, or storing a history.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
from dataclasses import dataclass, field

from django.utils import timezone

from ds01portal.engine import get_engine
from ds01portal.engine.base import ContainerEngine, UsageSample
from ds01portal.exceptions import EngineError, MissingOnEngine
from workspaces.gpus.base import DeviceUsage
from workspaces.models import Container, Device, Machine
from workspaces.services.devices import read_device_usage

__all__ = [
    "ContainerUsage",
    "DeviceReading",
    "HostUsage",
    "read_container_usage",
    "read_device_usage",
    "read_host_usage",
]

LONGEST_GAP = 180.0  # seconds; over more than this a rate would say little about now
Reading = tuple[float, int]  # unix time in seconds, cumulative processor nanoseconds


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceReading:
    """What one device does: per cent 0-100 and bytes; None is unknown."""

    device: Device
    percent: float | None
    memory_bytes: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerUsage:
    """One look at a container. `cpu_cores` is a rate, None until two readings are known.

    `token` is to be handed in with the next question. `trouble` says in words why there are no
    figures: "" | "not-running" | "engine".
    """

    read_at: dt.datetime
    cpu_cores: float | None = None
    memory_bytes: int | None = None
    memory_limit_bytes: int | None = None
    devices: list[DeviceReading] = field(default_factory=list)
    token: str = ""
    trouble: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class HostUsage:
    """What the host of this process uses: load of the last minute in cores, bytes otherwise."""

    load: float | None
    memory_used: int | None
    memory_total: int | None
    disk_free: int | None
    disk_total: int | None


def read_container_usage(
    *,
    container: Container,
    devices: list[Device],
    token: str = "",
    engine: ContainerEngine | None = None,
) -> ContainerUsage:
    """Return what a container uses now; `token` is that of the last answer, or empty.

    Raises nothing: trouble of the engine is said in the answer.
    """
    now = timezone.now()
    if container.state not in (Container.State.RUNNING, Container.State.PAUSED):
        return ContainerUsage(read_at=now, trouble="not-running")
    try:
        sample = (engine or get_engine()).read_usage(container.engine_name)
    except MissingOnEngine:
        return ContainerUsage(read_at=now, trouble="not-running")
    except EngineError:
        return ContainerUsage(read_at=now, token=token, trouble="engine")
    return ContainerUsage(
        read_at=now,
        cpu_cores=cpu_rate(_parse_token(token), sample),
        memory_bytes=sample.memory_bytes,
        memory_limit_bytes=sample.memory_limit_bytes or None,
        devices=_read_devices(devices),
        token=_make_token(sample),
    )


def cpu_rate(before: Reading | None, sample: UsageSample) -> float | None:
    """Return cores used between two readings; None when they do not make a rate."""
    if before is None or sample.cpu_nanoseconds is None:
        return None
    seconds = sample.read_at.timestamp() - before[0]
    spent = sample.cpu_nanoseconds - before[1]
    # Less than before: the container was started anew between the two.
    if not 0 < seconds <= LONGEST_GAP or spent < 0:
        return None
    return spent / 1e9 / seconds


def _make_token(sample: UsageSample) -> str:
    if sample.cpu_nanoseconds is None:
        return ""
    return f"{sample.read_at.timestamp():.3f}-{sample.cpu_nanoseconds}"


def _parse_token(token: str) -> Reading | None:
    """Read a token; what a person typed instead of one is no reading."""
    moment, _, spent = token[:60].partition("-")
    try:
        return float(moment), int(spent)
    except ValueError:
        return None


def _read_devices(devices: list[Device]) -> list[DeviceReading]:
    found = read_device_usage([device.uuid for device in devices]) if devices else {}
    readings = []
    for device in devices:
        usage = found.get(device.uuid) or DeviceUsage(uuid=device.uuid)
        reading = DeviceReading(
            device=device, percent=usage.gpu_percent, memory_bytes=usage.memory_used_bytes
        )
        readings.append(reading)
    return readings


def read_host_usage(*, machine: Machine) -> HostUsage:
    """Return what the portal's own host uses; on a remote engine's host it sees nothing."""
    total, used = _read_memory()
    try:
        load: float | None = os.getloadavg()[0]
    except OSError:
        load = None
    try:
        disk = shutil.disk_usage(machine.engine_root or "/")
    except OSError:
        return HostUsage(
            load=load, memory_used=used, memory_total=total, disk_free=None, disk_total=None
        )
    return HostUsage(
        load=load,
        memory_used=used,
        memory_total=total,
        disk_free=disk.free,
        disk_total=disk.total,
    )


def _read_memory() -> tuple[int | None, int | None]:
    """Return total and used bytes as Linux tells them: what is not available counts as used."""
    facts: dict[str, int] = {}
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                name, _, rest = line.partition(":")
                facts[name] = int(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        return None, None
    total, available = facts.get("MemTotal"), facts.get("MemAvailable")
    return total, total - available if total is not None and available is not None else None
