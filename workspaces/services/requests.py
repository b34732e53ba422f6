"""What a launch asks for, and the size it comes to. Pure apart from reading limits.

Not in charge of: whether it is granted (`preflight`), and of making anything.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from catalog.models import Image
from ds01portal.exceptions import InvalidInput, QuotaExceeded
from ds01portal.limits import UNLIMITED, Special, Unit, format_limit
from ds01portal.models import Person
from ds01portal.services.quotas import EffectiveLimits
from workspaces.models import Machine, SharedFolder

# Docker wants a letter or digit first.
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,59}")
MINIMUM_MEMORY = 64 * 1024**2
UNBOUND = -1


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchRequest:
    """One wish. `cpus` cores, `memory` bytes; None takes what the limit allows."""

    owner: Person
    name: str
    image: Image | None
    reference: str
    framework: str = ""
    version: str = ""
    architecture: str = ""
    devices: int = 0
    device_uuids: tuple[str, ...] = ()
    cpus: float | None = None
    memory: int | None = None
    data: SharedFolder | None = None
    models: SharedFolder | None = None
    workspace: str = ""
    request_key: str = ""

    @property
    def device_count(self) -> int:
        """Number of devices asked for."""
        return len(self.device_uuids) or self.devices


def check_name(name: str) -> None:
    """Raise InvalidInput unless the name is one that `mlc` takes too."""
    if not NAME.fullmatch(name):
        raise InvalidInput(
            f"“{name[:60]}” is not a container name." if name else "The container needs a name.",
            hint="Use 1 to 60 letters, digits, hyphens and underscores, a letter or digit first, "
            "such as thesis-bert.",
            field="name",
            value=name[:60],
        )


def choose_size(
    *, request: LaunchRequest, limits: EffectiveLimits, machine: Machine
) -> tuple[dict[str, int | float], list[str]]:
    """Return cpus, memory, swap, shm, pids (bytes, cores; -1 is unlimited) and notes.

    What is above the machine is clamped to it and said so: Docker refuses more CPUs than there
    are. Raise QuotaExceeded for more than the limit, InvalidInput for nonsense.
    """
    notes: list[str] = []
    # Rounded before it is judged: zero cores would mean all of them to Docker.
    cpus = round(_pick(request.cpus, limits, "cpus", float(machine.cpus), notes), 2)
    memory = int(_pick(request.memory, limits, "memory", float(machine.memory_bytes), notes))
    if cpus <= 0 or memory < MINIMUM_MEMORY:
        raise InvalidInput(
            "A container needs a part of a core and at least 64 MB of memory.",
            hint="Ask for more, or ask an admin when your limit is that low.",
            field="cpus" if cpus <= 0 else "memory",
        )
    shm = _plain(limits, "shm", memory)
    pids = _plain(limits, "pids", UNBOUND)
    swap = _plain(limits, "swap", UNBOUND)
    return {
        "cpus": cpus,
        "memory": memory,
        "swap": swap,
        "shm": max(min(shm, memory), 1024**2),
        "pids": max(pids, 16) if pids != UNBOUND else UNBOUND,
    }, notes


def _plain(limits: EffectiveLimits, name: str, unlimited: int) -> int:
    value = limits.value(name)
    if value is UNLIMITED:
        return unlimited
    return 0 if isinstance(value, Special) else int(value)


def _pick(
    wanted: float | None, limits: EffectiveLimits, name: str, there: float, notes: list[str]
) -> float:
    limit = limits.value(name)
    unit = Unit.CORES if name == "cpus" else Unit.BYTES
    label = "cores" if name == "cpus" else "of memory"
    bound = float("inf") if limit is UNLIMITED else 0.0
    if not isinstance(limit, Special):
        bound = float(limit)
    value = wanted if wanted is not None else min(bound, there or bound)
    if not math.isfinite(value):
        raise InvalidInput(
            f"How much {'memory' if name == 'memory' else 'of the processor'} is not clear.",
            hint="Ask for a number.",
            field=name,
        )
    if value > bound + 1e-9:
        raise QuotaExceeded(
            f"{format_limit(value, unit)} {label} asked for, "
            f"your limit per container is {format_limit(bound, unit)}.",
            hint="Ask for less, or ask an admin for a higher limit.",
            resource=name,
            limit=bound,
            used=0,
            requested=value,
            field=name,
        )
    if there and value > there:
        notes.append(
            f"{format_limit(value, unit)} {label} asked for; this machine has "
            f"{format_limit(there, unit)}, so the container gets those."
        )
        value = there
    elif there and wanted is None and bound > there and bound != float("inf"):
        notes.append(
            f"Your limit is {format_limit(bound, unit)} {label}; this machine has "
            f"{format_limit(there, unit)}, so the container gets those."
        )
    return value
