"""Facts about the engine that builds depend on: its folder, its runc, NVIDIA's toolkit.

Who asks the engine hands them over; the toolkit is no part of the engine and is asked for its
version on this host. Not in charge of: the driver's facts (`hosts`).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time

from django.conf import settings
from django.utils import timezone

from catalog.escapes import RUNC, TOOLKIT, Escape, find_escapes, parse_version
from catalog.models import HostFacts
from catalog.services.image_quota import is_engine_local

__all__ = [
    "Escape",
    "find_unknown_components",
    "forget_toolkit_version",
    "known_escapes",
    "read_toolkit_version",
    "record_engine_facts",
]

ASK_AGAIN = 600.0  # seconds until the toolkit is asked anew: it may be upgraded meanwhile
TIMEOUT = 2.0  # seconds
_TOOLS = (
    (("nvidia-ctk", "--version"), re.compile(r"version\s+(\S+)")),
    (("nvidia-container-cli", "--version"), re.compile(r"cli-version:\s*(\S+)")),
)

_lock = threading.Lock()
_answers: dict[str, tuple[float, str]] = {}  # by engine's address: when (monotonic), version


def record_engine_facts(*, root: str, runc_version: str, toolkit_version: str) -> HostFacts:
    """Store what was seen now, written only when it changed; empty texts mean not known."""
    seen = {
        "engine_root": root[:300],
        "runc_version": runc_version[:60],
        "toolkit_version": toolkit_version[:60],
    }
    facts = HostFacts.objects.filter(pk=HostFacts.SINGLETON).first()
    if facts is not None and all(getattr(facts, key) == value for key, value in seen.items()):
        return facts
    written, _created = HostFacts.objects.update_or_create(
        pk=HostFacts.SINGLETON, defaults={**seen, "updated_at": timezone.now()}
    )
    return written


def read_toolkit_version() -> str:
    """Return the version of NVIDIA's container toolkit on this host, nothing when there is none.

    The engine must be on this host, too. The answer is kept for ten minutes.
    """
    with _lock:
        asked_at, version = _answers.get(settings.DOCKER_HOST, (float("-inf"), ""))
        if time.monotonic() - asked_at > ASK_AGAIN:
            version = _ask_tools() if is_engine_local() else ""
            _answers[settings.DOCKER_HOST] = (time.monotonic(), version)
        return version


def forget_toolkit_version() -> None:
    """Ask again at the next question."""
    with _lock:
        _answers.clear()


def _ask_tools() -> str:
    for (name, *options), pattern in _TOOLS:
        path = shutil.which(name)
        if path is None:
            continue
        try:
            said = subprocess.run(  # noqa: S603  a fixed command, found on our own PATH
                [path, *options], capture_output=True, text=True, timeout=TIMEOUT, check=False
            )
        except (OSError, subprocess.SubprocessError):
            continue
        if match := pattern.search(said.stdout):
            return match[1]
    return ""


def _read_facts() -> HostFacts | None:
    return HostFacts.objects.filter(pk=HostFacts.SINGLETON).first()


def known_escapes(*, facts: HostFacts | None = None) -> list[Escape]:
    """Return the known ways out of containers on this machine, by the versions last seen."""
    seen = facts or _read_facts()
    if seen is None:
        return []
    return [
        *find_escapes(RUNC, seen.runc_version),
        *find_escapes(TOOLKIT, seen.toolkit_version),
    ]


def find_unknown_components(*, facts: HostFacts | None = None) -> list[str]:
    """Return the components whose version cannot be judged, which is no alarm.

    Without a driver nobody expects NVIDIA's toolkit.
    """
    seen = facts or _read_facts()
    if seen is None:
        return []
    unknown = [] if parse_version(seen.runc_version) else [RUNC]
    if seen.driver_version and not parse_version(seen.toolkit_version):
        unknown.append(TOOLKIT)
    return unknown
