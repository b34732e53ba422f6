"""Keys of DS01's limits file, what they mean here, and how their values are read.

Pure. Not in charge of: the file's layers (ds01_limits).
"""

from __future__ import annotations

import datetime as dt
import math
import re
from dataclasses import dataclass
from typing import Final

from ds01portal.exceptions import InvalidInput
from ds01portal.limits import UNLIMITED, Limit, Special, Unit, parse_limit
from ds01portal.strict_yaml import Branch, bad_yaml

LARGEST: Final = 2**53


@dataclass(frozen=True, slots=True)
class Target:
    """The limit behind a key. `hours` says that a bare number counts hours."""

    limit: str
    unit: Unit
    hours: bool = False


# Of several names of one limit the first that a section has counts: the current one, then the
# older ones in the order in which DS01 looks for them.
FIELDS: Final[dict[str, Target]] = {
    "max_gpu_equivalents": Target("gpueq", Unit.GPUEQ),
    "max_gpu_slots": Target("gpueq", Unit.GPUEQ),
    "max_gpus_per_user": Target("gpueq", Unit.GPUEQ),
    "max_mig_instances": Target("gpueq", Unit.GPUEQ),
    "max_gpu_slots_per_container": Target("devices_per_container", Unit.COUNT),
    "max_gpus_per_container": Target("devices_per_container", Unit.COUNT),
    "max_mig_per_container": Target("devices_per_container", Unit.COUNT),
    "max_containers_per_user": Target("containers", Unit.COUNT),
    "max_containers": Target("containers", Unit.COUNT),
    "max_cpus": Target("cpus", Unit.CORES),
    "cpus": Target("cpus", Unit.CORES),
    "memory": Target("memory", Unit.BYTES),
    "shm_size": Target("shm", Unit.BYTES),
    "pids_limit": Target("pids", Unit.COUNT),
    "max_runtime_h": Target("max_runtime", Unit.SECONDS, hours=True),
    "max_runtime": Target("max_runtime", Unit.SECONDS, hours=True),
    "idle_timeout_h": Target("idle_timeout", Unit.SECONDS, hours=True),
    "idle_timeout": Target("idle_timeout", Unit.SECONDS, hours=True),
    "gpu_hold_after_stop_h": Target("gpu_hold", Unit.SECONDS, hours=True),
    "gpu_hold_after_stop": Target("gpu_hold", Unit.SECONDS, hours=True),
    "container_hold_after_stop_h": Target("container_hold", Unit.SECONDS, hours=True),
    "container_hold_after_stop": Target("container_hold", Unit.SECONDS, hours=True),
    "storage_workspace": Target("disk", Unit.BYTES),
}
# Limits that the file decides, also by not naming them.
DECIDED: Final = frozenset(
    {target.limit for target in FIELDS.values()} - {"disk"} | {"swap", "total_cpus", "total_memory"}
)

POLICIES: Final[dict[str, str]] = {
    "gpu_idle_threshold": "% of GPU use below which it is idle",
    "cpu_idle_threshold": "% of CPU use below which it is idle",
    "network_idle_threshold": "bytes of traffic below which it is idle",
    "idle_detection_window": "checks in a row before anything happens",
    "grace_period_m": "minutes after the start without idle checks",
    "high_demand_threshold": "share of taken devices from which demand is high",
    "high_demand_idle_reduction": "factor on idle limits in high demand",
    "created_container_timeout_m": "minutes until a never started container goes",
    "sigterm_grace_s": "seconds between the polite and the hard stop",
}

IGNORED: Final[dict[str, str]] = {
    "allow_full_gpu": "whole GPUs are counted by max_gpu_equivalents; set that below 1 instead",
    "max_tasks": "belongs to systemd slices; pids_limit bounds each container",
    "tasks_max": "belongs to systemd slices; pids_limit bounds each container",
    "memory_high": "there is no soft limit; memory_max counts",
    "priority": "requests are served in the order in which they come",
    "members": "people come into groups by import_users or in the admin pages",
    "description": "groups have no description",
    "keepalive_max_duration_h": "a file that keeps a container alive is not read",
    "gpu_hold_after_manual_stop_m": "gpu_hold_after_stop_h counts for every stop",
    "slots_per_gpu": "what a slice counts is read from the device",
    "mig_instances_per_gpu": "what a slice counts is read from the device",
    "storage_data": "there is no limit for shared folders",
    "storage_tmp": "there is no limit for /tmp",
    "gpu_memory": "a device is given whole; its memory is its own",
    "aggregate_limits": "limits over all containers always hold",
    "cgroup_driver": "Docker's own setting is kept",
}
SECTIONS_IGNORED: Final[dict[str, str]] = {
    "enforcement": "limits are always enforced",
    "gpu_allocation": "devices and their weights are read from the machine",
    "monitoring": "containers that belong to nobody here are left alone anyway",
    "bare_metal_access": "the portal does not manage logins on the host",
    "access_control": "the portal replaces the wrapper around docker",
}


def read_field(target: Target, branch: Branch, path: str) -> Limit:
    """Return a limit in base units; null is unlimited, zero is zero."""
    if target.hours:
        return read_hours(branch, path)
    value = branch.value
    if value is None:
        return UNLIMITED
    if isinstance(value, str):
        return _parse(value, target.unit, branch, path)
    number = _number(branch, path)
    if target.unit in (Unit.COUNT, Unit.BYTES) and number != int(number):
        raise bad_yaml(branch.line, f"{path}: {number} is not a whole number.")
    return number


def read_hours(branch: Branch, path: str) -> Limit:
    """Return seconds; a bare number counts hours, text may have a unit such as 24h."""
    value = branch.value
    if value is None:
        return UNLIMITED
    if isinstance(value, str) and not re.fullmatch(r"[0-9]+(\.[0-9]+)?", value.strip()):
        return _parse(value, Unit.SECONDS, branch, path)
    number = float(value) if isinstance(value, str) else _number(branch, path)
    return round(_bounded(number * 3600, branch, path))


def read_percent(branch: Branch, path: str) -> Limit:
    """Return cores; systemd writes 96 cores as 9600%."""
    if branch.value is None:
        return UNLIMITED
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*%", str(branch.value).strip())
    if not match or isinstance(branch.value, bool):
        raise bad_yaml(branch.line, f"{path} is not a percentage.", "Write 9600% for 96 cores.")
    return _bounded(float(match[1]) / 100, branch, path)


def read_number(branch: Branch, path: str) -> float | int:
    """Return a number that is not negative."""
    return _number(branch, path)


def read_date(branch: Branch, path: str) -> dt.datetime | None:
    """Return the end of a day, or a time; without a zone it is UTC. None: never."""
    if branch.value is None:
        return None
    try:
        text = str(branch.value)
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            text = f"{text}T23:59:59"
        moment = dt.datetime.fromisoformat(text)
    except ValueError as error:
        hint = "Write it as 2027-01-31."
        raise bad_yaml(branch.line, f"{path} is not a date.", hint) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def _parse(text: str, unit: Unit, branch: Branch, path: str) -> Limit:
    try:
        limit = parse_limit(text, unit, field=path)
    except InvalidInput as error:
        raise bad_yaml(branch.line, f"{path}: {error.message}", error.hint) from error
    if isinstance(limit, Special) and limit is not UNLIMITED:
        raise bad_yaml(branch.line, f"{path} is empty text.", "Remove the key to inherit.")
    return limit


def _number(branch: Branch, path: str) -> float | int:
    value = branch.value
    if isinstance(value, bool) or not isinstance(value, int | float):
        kind = {dict: "a section", list: "a list", bool: "yes or no", str: "text"}
        said = kind.get(type(value), "nothing")
        raise bad_yaml(branch.line, f"{path} must be a number, not {said}.")
    return _bounded(value, branch, path)


def _bounded(value: float, branch: Branch, path: str) -> float | int:
    if not math.isfinite(value) or value < 0 or value >= LARGEST:
        raise bad_yaml(
            branch.line, f"{path}: {value} is not possible.", "Write zero or more, null: no limit."
        )
    return value
