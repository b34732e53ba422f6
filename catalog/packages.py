"""Read what is installed out of what a command prints: the command, and its answer. Pure.

The command runs in images and containers that people made, so its answer is only believed as
far as it is well formed: sizes are bounded and names are checked.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from packaging.utils import canonicalize_name

__all__ = ["LIST_COMMAND", "MOST_OUTPUT", "AptPackage", "Listing", "PipPackage", "parse_listing"]

MOST_OUTPUT = 4 * 1024**2  # bytes
MOST_PACKAGES = 10_000
PIP, APT, MANUAL, END = "DS01-PIP ", "DS01-APT ", "DS01-MANUAL ", "DS01-END"
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,198}[A-Za-z0-9])?")
_APT_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]{0,198}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+!:~_-]{0,119}")

# What `pip list` reads, without needing pip, and a word on each: whether somebody asked for it
# (or it came with another), and whether it is from somewhere else than an index. The first
# place on the path wins, as it does for imports.
_PYTHON = """
import json, sys
sys.path[:] = [place for place in sys.path if place]
try:
    from importlib import metadata
except ImportError:
    import importlib_metadata as metadata
found = {}
for one in metadata.distributions():
    try:
        name = one.metadata["Name"]
        if name and name not in found:
            asked = one.read_text("REQUESTED") is not None
            origin = json.loads(one.read_text("direct_url.json") or "{}")
            found[name] = [one.version, asked, bool(origin)]
    except Exception:
        pass
print("DS01-PIP " + json.dumps(found))
"""
LIST_COMMAND = (
    "cd / || exit 1; "
    f"python3 -c '{_PYTHON}' 2>/dev/null || true; "
    "dpkg-query -W -f='DS01-APT ${db:Status-Abbrev} ${Package} ${Version}\\n' 2>/dev/null || true; "
    "apt-mark showmanual 2>/dev/null | sed 's/^/DS01-MANUAL /' || true; "
    "echo DS01-END"
)


@dataclass(frozen=True, slots=True)
class PipPackage:
    """A package as its files tell. `direct`: from a folder or an address, not from an index."""

    name: str  # PEP 503
    version: str
    requested: bool = False
    direct: bool = False


@dataclass(frozen=True, slots=True)
class AptPackage:
    """An installed package. `requested`: somebody asked for it, it did not come with another."""

    name: str
    version: str
    requested: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """What is installed, by name. `whole`: the answer had its end."""

    pip: dict[str, PipPackage] = field(default_factory=dict)
    apt: dict[str, AptPackage] = field(default_factory=dict)
    whole: bool = False


def parse_listing(output: bytes) -> Listing:
    """Return what the command has printed; what is not well formed is left out."""
    pip: dict[str, PipPackage] = {}
    apt: dict[str, str] = {}
    manual: set[str] = set()
    whole = False
    for line in output[:MOST_OUTPUT].decode("utf-8", "replace").splitlines():
        if line.startswith(PIP):
            pip = _parse_pip(line.removeprefix(PIP))
        elif line.startswith(APT):
            name, version = _parse_apt(line.removeprefix(APT))
            if name and len(apt) < MOST_PACKAGES:
                apt[name] = version
        elif line.startswith(MANUAL):
            manual.add(line.removeprefix(MANUAL).strip())
        whole = whole or line == END
    packages = {name: AptPackage(name, version, name in manual) for name, version in apt.items()}
    return Listing(pip=pip, apt=packages, whole=whole)


def _parse_pip(text: str) -> dict[str, PipPackage]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    packages = [_pip_package(name, facts) for name, facts in found.items()]
    kept = [package for package in packages if package is not None][:MOST_PACKAGES]
    return {package.name: package for package in reversed(kept)}  # the first of a name wins


def _pip_package(name: str, facts: Any) -> PipPackage | None:
    if not isinstance(facts, list) or len(facts) != 3 or not _NAME.fullmatch(name):
        return None
    version, requested, direct = facts
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        return None
    return PipPackage(canonicalize_name(name), version, requested is True, direct is True)


def _parse_apt(text: str) -> tuple[str, str]:
    """Return name and version of an installed package, empty texts for others.

    The state of an installed one begins with `ii`, or `hi` when it is held.
    """
    words = text.split()
    if len(words) != 3 or words[0] not in ("ii", "hi"):
        return "", ""
    _state, name, version = words
    return (
        (name, version) if _APT_NAME.fullmatch(name) and _VERSION.fullmatch(version) else ("", "")
    )
