"""The tri-state limit, its units, and how people write them.

A limit is UNSET (inherit), UNLIMITED, or a number. Zero is zero: nothing allowed. In the
database the three are NULL, -1 and the number; in JSON null, "unlimited" and the number.
Pure: knows no model and no setting.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from ds01portal.exceptions import InvalidInput


class Special(Enum):
    """The two values of a limit that are not numbers."""

    UNSET = "unset"  # this layer says nothing; the next one decides
    UNLIMITED = "unlimited"  # explicitly without a bound

    def __repr__(self) -> str:
        return self.name


UNSET: Final = Special.UNSET
UNLIMITED: Final = Special.UNLIMITED
Limit = Special | int | float

STORED_UNLIMITED: Final = -1


class Unit(Enum):
    """What a limit counts."""

    COUNT = "count"
    GPUEQ = "gpueq"  # GPU-equivalents: whole GPU 1.0, MIG instance N/7
    CORES = "cores"
    BYTES = "bytes"
    SECONDS = "seconds"


@dataclass(frozen=True, slots=True)
class LimitSpec:
    """One limit the portal knows: field name, unit, and words for people."""

    name: str
    unit: Unit
    label: str
    help: str


LIMITS: Final[tuple[LimitSpec, ...]] = (
    LimitSpec("gpueq", Unit.GPUEQ, "GPUs", "GPU-equivalents over all containers"),
    LimitSpec("devices_per_container", Unit.COUNT, "Devices per container", "GPUs or MIG slices"),
    LimitSpec("containers", Unit.COUNT, "Containers", "containers at a time, stopped ones too"),
    LimitSpec("cpus", Unit.CORES, "CPU cores per container", "cores of one container"),
    LimitSpec("memory", Unit.BYTES, "Memory per container", "memory of one container"),
    LimitSpec("swap", Unit.BYTES, "Swap per container", "swap in addition to memory"),
    LimitSpec("shm", Unit.BYTES, "Shared memory per container", "size of /dev/shm"),
    LimitSpec("pids", Unit.COUNT, "Processes per container", "processes and threads"),
    LimitSpec("total_cpus", Unit.CORES, "CPU cores in all", "cores over all running containers"),
    LimitSpec("total_memory", Unit.BYTES, "Memory in all", "memory over all running containers"),
    LimitSpec("max_runtime", Unit.SECONDS, "Longest run", "from launch until the stop"),
    LimitSpec("idle_timeout", Unit.SECONDS, "Idle limit", "without any work until the stop"),
    LimitSpec("gpu_hold", Unit.SECONDS, "GPU hold after stop", "how long a GPU stays reserved"),
    LimitSpec("container_hold", Unit.SECONDS, "Container hold after stop", "until removal"),
    LimitSpec("images", Unit.COUNT, "Own images", "custom images"),
    LimitSpec("disk", Unit.BYTES, "Disk of images", "layers of custom images, without their bases"),
)
LIMIT_NAMES: Final = tuple(spec.name for spec in LIMITS)

_SIZE = {"": 1, "b": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4, "p": 1024**5}
_TIME = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_UNSET_WORDS = frozenset({"", "inherit", "unset", "default"})
_UNLIMITED_WORDS = frozenset({"unlimited", "none", "null", "never", "indefinite", "infinite", "∞"})
_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([a-zA-Z]*)")
_SEVERAL = re.compile(r"(?:[0-9]+[dhms]\s*){2,}")  # "1d 1h", as durations are written
_LARGEST = 2**53  # from here on a float is no longer exact


def parse_limit(text: str, unit: Unit, *, field: str = "") -> Limit:
    """Return the limit that a person typed, in base units.

    Sizes take b k m g t (1024-based, `GB` and `GiB` read alike), durations s m h d w, both
    with decimals. Raise InvalidInput for anything else, negative numbers included.
    """
    word = text.strip().lower()
    if word in _UNSET_WORDS:
        return UNSET
    if word in _UNLIMITED_WORDS:
        return UNLIMITED
    if unit is Unit.SECONDS and _SEVERAL.fullmatch(word):
        parts = re.findall(r"([0-9]+)([dhms])", word)
        return int(sum(_scale(float(count), suffix, unit, text, field) for count, suffix in parts))
    match = _NUMBER.fullmatch(word)
    if not match:
        raise _bad(text, unit, field)
    number, suffix = float(match[1]), match[2]
    return _scale(number, suffix, unit, text, field)


def _scale(number: float, suffix: str, unit: Unit, text: str, field: str) -> int | float:
    if unit is Unit.BYTES:
        factor = _SIZE.get(re.sub(r"(?<=[kmgtp])i?b$", "", suffix))
    elif unit is Unit.SECONDS:
        factor = _TIME.get(suffix)
    else:
        factor = 1 if not suffix else None
    if factor is None:
        raise _bad(text, unit, field)
    value = number * factor
    if value >= _LARGEST:
        raise _bad(text, unit, field)
    if unit in (Unit.GPUEQ, Unit.CORES):
        return value
    if value != int(value) and unit is Unit.COUNT:
        raise _bad(text, unit, field)
    return round(value)


def _bad(text: str, unit: Unit, field: str) -> InvalidInput:
    allowed = {
        Unit.COUNT: "a whole number, such as 3",
        Unit.GPUEQ: "a number, such as 1 or 0.5",
        Unit.CORES: "a number of cores, such as 8 or 0.5",
        Unit.BYTES: "a size, such as 32g or 512m",
        Unit.SECONDS: "a duration, such as 30m, 0.5h or 7d",
    }[unit]
    return InvalidInput(
        f"“{text.strip()[:60]}” is not {allowed}.",
        hint=f"Write {allowed}, “unlimited”, or leave it empty to inherit.",
        field=field,
        value=text.strip()[:60],
    )


def format_limit(limit: Limit, unit: Unit) -> str:
    """Return a limit in people's terms, rounded; empty when unset."""
    if isinstance(limit, Special):
        return "" if limit is UNSET else "unlimited"
    if unit is Unit.BYTES:
        return format_bytes(int(limit))
    if unit is Unit.SECONDS:
        return format_seconds(int(limit))
    return f"{limit:.3f}".rstrip("0").rstrip(".") if isinstance(limit, float) else str(limit)


def format_exactly(limit: Limit, unit: Unit) -> str:
    """Return a text that `parse_limit` reads back as the same limit."""
    text = format_limit(limit, unit)
    exact = isinstance(limit, Special) or parse_limit(text, unit) == limit
    return text if exact else repr(limit)


def format_bytes(size: int) -> str:
    """Return 34359738368 as "32 GB" (1024-based, as Docker and DS01 count)."""
    for suffix, factor in (("TB", 1024**4), ("GB", 1024**3), ("MB", 1024**2), ("KB", 1024)):
        if size >= factor:
            return f"{size / factor:.1f}".removesuffix(".0") + f" {suffix}"
    return f"{size} B"


def format_seconds(seconds: int) -> str:
    """Return 90000 as "1d 1h", a negative number as "unlimited"."""
    if seconds < 0:
        return "unlimited"
    parts = []
    for suffix, factor in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, factor)
        if count:
            parts.append(f"{count}{suffix}")
    return " ".join(parts) or "0s"


def parse_duration(text: str | None) -> int:
    """Return seconds; -1 is unlimited, and so is nothing. Raise InvalidInput for anything else."""
    value = parse_limit(" ".join((text or "").split()), Unit.SECONDS, field="duration")
    return STORED_UNLIMITED if isinstance(value, Special) else int(value)


def to_stored(limit: Limit) -> float | int | None:
    """Return the database form."""
    if limit is UNSET:
        return None
    return STORED_UNLIMITED if isinstance(limit, Special) else limit


def from_stored(value: float | int | None) -> Limit:
    """Return the limit behind a database value."""
    if value is None:
        return UNSET
    return UNLIMITED if value == STORED_UNLIMITED else value


def to_json(limit: Limit) -> float | int | str | None:
    """Return the JSON form."""
    if limit is UNSET:
        return None
    return "unlimited" if isinstance(limit, Special) else limit


def allows(limit: Limit, amount: float) -> bool:
    """Tell whether an amount is within the limit. An unset limit allows nothing (fail closed)."""
    if limit is UNLIMITED:
        return True
    if isinstance(limit, Special):
        return False
    return amount <= limit + 1e-9
