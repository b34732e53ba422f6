"""Known ways out of a container, by version of runc and of NVIDIA's container toolkit. Pure.

Sources: the projects' own advisories. A distribution that mends an older version keeps its
number, so a version with a distribution's suffix is told as possibly mended. A version that
cannot be read is no alarm: it is said to be unknown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import zip_longest

__all__ = ["RUNC", "TOOLKIT", "Escape", "Version", "find_escapes", "parse_version"]

RUNC = "runc"
TOOLKIT = "NVIDIA container toolkit"

_VERSION = re.compile(
    r"v?(?P<numbers>\d{1,6}(?:\.\d{1,6}){1,3})"
    r"(?:[-~.]?(?P<stage>alpha|beta|rc|pre)[.-]?(?P<count>\d{0,4}))?"
    r"(?P<suffix>[-+~].*)?",
    re.IGNORECASE | re.ASCII,
)
# "-0-g51d5e94" is how runc names a commit, "-1" a package's own revision.
_PLAIN_SUFFIX = re.compile(r"(?:-\d+)?(?:-g[0-9a-f]+)?(?:-dirty)?|\+?unknown")
_FINAL = 1_000_000  # sorts behind every release candidate


@dataclass(frozen=True, order=True, slots=True)
class Version:
    """A version that compares: `numbers`, then release candidates before the release itself."""

    numbers: tuple[int, ...]
    candidate: int = _FINAL
    packaged: bool = False  # by a distribution, which may have mended it


@dataclass(frozen=True, kw_only=True, slots=True)
class Escape:
    """One known way out. `message` says it in one sentence; `packaged` see Version."""

    component: str
    version: str
    fixed_in: str
    advisory: str
    message: str
    packaged: bool = False


@dataclass(frozen=True, slots=True)
class _Hole:
    component: str
    advisory: str
    what: str
    fixed: tuple[str, ...]  # the first good version of each line that was mended, oldest first


_HOLES = (
    _Hole(RUNC, "CVE-2024-21626", "an open file descriptor leads to the host's files", ("1.1.12",)),
    _Hole(
        RUNC,
        "CVE-2025-31133, CVE-2025-52565, CVE-2025-52881",
        "masked paths and consoles can be swapped for the host's",
        ("1.2.8", "1.3.3", "1.4.0-rc.3"),
    ),
    _Hole(TOOLKIT, "CVE-2024-0132", "a made-up image reaches the host's files", ("1.16.2",)),
    _Hole(
        TOOLKIT,
        "CVE-2025-23266, CVE-2025-23267",
        "an image's own variables run code of the image as root on the host",
        ("1.17.8",),
    ),
)


def parse_version(text: str) -> Version | None:
    """Return the version in a text such as `1.1.5+ds1-1+deb12u1`, None when there is none.

    Digits that are left out count as zero: 1.2 is 1.2.0.
    """
    match = _VERSION.fullmatch(text.strip())
    if match is None:
        return None
    numbers = [int(part) for part in match["numbers"].split(".")]
    three = tuple(own for own, _ in zip_longest(numbers, (0, 0, 0), fillvalue=0))
    candidate = int(match["count"] or 0) if match["stage"] else _FINAL
    suffix = match["suffix"] or ""
    return Version(three, candidate, packaged=not _PLAIN_SUFFIX.fullmatch(suffix))


def find_escapes(component: str, text: str) -> list[Escape]:
    """Return the known ways out of containers of this version; none for a version unknown."""
    version = parse_version(text)
    if version is None:
        return []
    found = []
    for hole in _HOLES:
        if hole.component == component and (fixed := _missing_fix(version, hole.fixed)):
            found.append(
                Escape(
                    component=component,
                    version=text.strip(),
                    fixed_in=", ".join(hole.fixed),
                    advisory=hole.advisory,
                    message=_explain(component, text.strip(), hole, fixed, version.packaged),
                    packaged=version.packaged,
                )
            )
    return found


def _missing_fix(version: Version, fixed: tuple[str, ...]) -> str:
    """Return the version that mends it, nothing when this one is good.

    A line that was mended is judged by its own fix; lines before the first one were never
    mended, those after the last one began with it.
    """
    bare = Version(version.numbers, version.candidate)
    for text in fixed:
        good = parse_version(text)
        assert good is not None
        if bare.numbers[:2] <= good.numbers[:2]:
            return "" if bare >= good else text
    return ""


def _explain(component: str, text: str, hole: _Hole, fixed: str, packaged: bool) -> str:
    said = (
        f"{component} {text} has a known way out of containers ({hole.advisory}): {hole.what}. "
        f"Mended in {fixed}."
    )
    if packaged:
        said += (
            " This is a distribution's package, which may have it mended under the same number: "
            "look the advisory up there."
        )
    return said
