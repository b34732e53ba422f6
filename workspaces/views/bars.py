"""Limits of a person as bars and sentences: used, allowed, and who says so.

Not in charge of: resolving or checking limits (ds01portal.services.quotas).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ds01portal.limits import UNLIMITED, Special, Unit, format_limit
from ds01portal.models import Person
from ds01portal.services.quotas import EffectiveLimit, EffectiveLimits, resolve_limits
from workspaces.models import Container
from workspaces.services.assignments import used_gpueq

# What the registry of limits calls them, here for the translators.
WORDS = {
    "gpueq": (
        gettext_lazy("GPUs"),
        gettext_lazy("over all containers; a MIG slice counts in part"),
    ),
    "devices_per_container": (
        gettext_lazy("Devices"),
        gettext_lazy("whole GPUs or MIG slices"),
    ),
    "containers": (gettext_lazy("Containers"), gettext_lazy("at a time, stopped ones too")),
    "cpus": (gettext_lazy("CPU cores"), ""),
    "memory": (gettext_lazy("Memory"), ""),
    "swap": (gettext_lazy("Swap"), gettext_lazy("in addition to memory")),
    "shm": (gettext_lazy("Shared memory"), gettext_lazy("the size of /dev/shm")),
    "pids": (gettext_lazy("Processes"), gettext_lazy("with their threads")),
    "total_cpus": (gettext_lazy("CPU cores in all"), gettext_lazy("over all running containers")),
    "total_memory": (gettext_lazy("Memory in all"), gettext_lazy("over all running containers")),
    "max_runtime": (gettext_lazy("Longest run"), gettext_lazy("from launch until the stop")),
    "idle_timeout": (gettext_lazy("Idle limit"), gettext_lazy("without any work until the stop")),
    "gpu_hold": (
        gettext_lazy("GPU hold after a stop"),
        gettext_lazy("how long a GPU stays yours after a stop"),
    ),
    "container_hold": (
        gettext_lazy("Container hold after a stop"),
        gettext_lazy("how long a stopped container is kept"),
    ),
    "images": (gettext_lazy("Own images"), gettext_lazy("with all their versions")),
    "disk": (gettext_lazy("Disk of your images"), gettext_lazy("their layers, without the bases")),
}
COUNTED = ("gpueq", "containers", "total_cpus", "total_memory")
IMAGES = ("images", "disk")
PER_CONTAINER = ("devices_per_container", "cpus", "memory", "swap", "shm", "pids")
TIMES = ("max_runtime", "idle_timeout", "gpu_hold", "container_hold")


@dataclass(frozen=True, kw_only=True, slots=True)
class LimitBar:
    """One limit for a reader. `fraction` None draws no bar."""

    name: str
    label: str
    help: str
    value: str
    text: str
    source: str
    expires_at: dt.datetime | None = None
    fraction: float | None = None
    level: str = "ok"


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """What a person holds: GPU-equivalents, containers, cores, bytes."""

    limits: EffectiveLimits
    used: dict[str, float]

    def left(self, name: str) -> float:
        """Return how much more would be granted; infinity when unlimited."""
        limit = self.limits.value(name)
        if limit is UNLIMITED:
            return float("inf")
        return 0.0 if isinstance(limit, Special) else max(0.0, limit - self.used.get(name, 0))


def load_usage(*, person: Person) -> Usage:
    """Read limits and what is used of them. Six queries, however many containers."""
    used = {"gpueq": used_gpueq(owner=person), "total_cpus": 0.0, "total_memory": 0.0}
    rows = Container.objects.counted().filter(owner=person).values_list("state", "spec")
    used["containers"] = len(rows)
    for state, spec in rows:
        if state in Container.ACTIVE_STATES:
            used["total_cpus"] += float(spec.get("cpus", 0))
            used["total_memory"] += float(spec.get("memory", 0))
    return Usage(limits=resolve_limits(person=person), used=used)


def make_bar(name: str, usage: Usage) -> LimitBar:
    """Return one limit as a bar."""
    limit = usage.limits.limits[name]
    label, words = WORDS[name]
    used = usage.used.get(name)
    return LimitBar(
        name=name,
        label=str(label),
        help=str(words),
        value=limit_words(limit),
        text=_text(limit, used),
        source=source_words(limit),
        expires_at=limit.expires_at,
        fraction=_fraction(limit, used),
        level=_level(limit, used),
    )


def plain_bar(label: str, text: str, used: float | None, limit: float | None) -> LimitBar:
    """Return a bar of something measured; an empty one where nothing is known."""
    fraction = max(0.0, min(1.0, used / limit)) if used is not None and limit else 0.0
    return LimitBar(
        name=label,
        label=label,
        help="",
        value="",
        text=text,
        source="",
        fraction=fraction,
        level="warn" if fraction >= 0.9 else "ok",
    )


def limit_words(limit: EffectiveLimit) -> str:
    """Return a limit alone in words; unset and zero say what they mean."""
    if limit.value is UNLIMITED:
        return _("unlimited")
    if isinstance(limit.value, Special):
        return _("nothing, as no limit is set")
    if limit.value == 0:
        return _("none")
    if limit.spec.unit is Unit.SECONDS:
        return duration_words(int(limit.value))
    return format_limit(limit.value, limit.spec.unit)


def duration_words(seconds: int) -> str:
    """Return 86400 as "24 h", 5400 as "1 h 30 min", 604800 as "7 d"."""
    days, rest = divmod(seconds, 86_400) if seconds > 2 * 86_400 else (0, seconds)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    parts = (
        (days, _("%(count)d d")),
        (hours, _("%(count)d h")),
        (minutes, _("%(count)d min")),
        (rest, _("%(count)d s")),
    )
    return " ".join(pattern % {"count": count} for count, pattern in parts if count)


def source_words(limit: EffectiveLimit) -> str:
    """Return where a limit comes from, for its owner."""
    if limit.source == "personal":
        return _("set for you")
    if limit.source.startswith("group "):
        return _("from your group %(group)s") % {"group": limit.source.removeprefix("group ")}
    if limit.source:
        return _("the same for everybody")
    return _("nobody has set it")


def _text(limit: EffectiveLimit, used: float | None) -> str:
    if used is None:
        return limit_words(limit)
    amount = format_limit(
        int(used) if limit.spec.unit is Unit.BYTES else round(used, 2), limit.spec.unit
    )
    if amount == "0 B":
        amount = "0"
    if limit.value is UNLIMITED:
        return _("%(used)s, unlimited") % {"used": amount}
    if isinstance(limit.value, Special):
        return _("none allowed: no limit is set")
    allowed = format_limit(limit.value, limit.spec.unit)
    return _("%(used)s of %(limit)s") % {"used": amount, "limit": allowed}


def _fraction(limit: EffectiveLimit, used: float | None) -> float | None:
    if used is None or limit.value is UNLIMITED:
        return None
    if isinstance(limit.value, Special) or limit.value == 0:
        return 1.0
    return min(1.0, used / limit.value)


def _level(limit: EffectiveLimit, used: float | None) -> str:
    fraction = _fraction(limit, used)
    if fraction is None:
        return "ok"
    return "full" if fraction >= 1 else "warn" if fraction >= 0.8 else "ok"
