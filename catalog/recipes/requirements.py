"""A requirements text as pip reads it: every line understood, or refused with its reason. Pure.

pip's own rules are followed where they matter for safety: lines that end in a backslash are
joined, a comment begins at a blank followed by `#` (even within quotes), words after the first one
that begins with `-` are options. What pip would fetch, run or read from elsewhere is refused one by
one, unless a policy allows it. `--pre`, `--prefer-binary`, `--only-binary`, `--no-binary` and
`--require-hashes` pass: they only choose among files of the index. Sources: PEP 508, and
`pip/_internal/req/req_file.py`. Not in charge of: whether a package exists.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from packaging.requirements import Requirement

from catalog.recipes.requirement_line import (
    LineProblem,
    RequirementLine,
    RequirementsPolicy,
    read_line,
)
from catalog.recipes.texts import bad_characters, shorten, split_lines

__all__ = [
    "PERMISSIVE",
    "STRICT",
    "LineProblem",
    "ParsedRequirements",
    "RequirementLine",
    "RequirementsPolicy",
    "check_package",
    "parse_requirements",
]

MAX_BYTES = 64 * 1024
MAX_LINES = 500  # lines that ask for a package
MAX_LINE = 12_000  # characters of one joined line; quoted it must stay below Docker's 65,535
MAX_PACKAGE = 500  # characters of one entry of a package list
STRICT = RequirementsPolicy()
PERMISSIVE = RequirementsPolicy(allow_urls=True, allow_index_options=True, allow_editable=True)

_COMMENT = re.compile(r"(^|\s+)#.*$")
_WHOLE_COMMENT = re.compile(r"\s*#")
# What pip takes for the encoding of the whole file when a first line says so (PEP 263).
_CODING = re.compile(r"coding[:=]\s*([-\w.]+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedRequirements:
    """What became of every physical line: `lines`, `problems`, `notes` (left out), `blank`."""

    lines: tuple[RequirementLine, ...]
    problems: tuple[LineProblem, ...]
    notes: tuple[LineProblem, ...] = ()
    blank: tuple[int, ...] = ()

    @property
    def packages(self) -> tuple[RequirementLine, ...]:
        """Return the lines that ask for a package: no comments, no options."""
        return tuple(line for line in self.lines if line.name)


@dataclass(frozen=True, slots=True)
class _Joined:
    """One logical line and where it stands."""

    first: int
    last: int
    text: str
    swallows: bool = False  # a comment that ends in a backslash takes in the line after it


def parse_requirements(text: str, *, policy: RequirementsPolicy = STRICT) -> ParsedRequirements:
    """Return the lines that go to the requirements file, and what is wrong with the others."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        reason = f"the requirements are larger than {MAX_BYTES // 1024} KB"
        hint = "Keep only what you import yourself; pip finds the rest."
        return ParsedRequirements(lines=(), problems=(LineProblem(1, "", reason, hint),))
    lines: list[RequirementLine] = []
    problems: list[LineProblem] = []
    blank: list[int] = []
    for joined in _join_lines(split_lines(text)):
        result = _read_joined(joined, policy)
        if result is None:
            blank.extend(range(joined.first, joined.last + 1))
        elif isinstance(result, LineProblem):
            problems.append(result)
        else:
            lines.append(result)
    kept, notes, clashes = _settle_duplicates(lines)
    problems += [*clashes, *_count_problem(kept)]
    problems.sort(key=lambda problem: problem.number)
    return ParsedRequirements(
        lines=tuple(kept), problems=tuple(problems), notes=tuple(notes), blank=tuple(blank)
    )


def check_package(
    text: str, *, policy: RequirementsPolicy = STRICT
) -> RequirementLine | LineProblem:
    """Return one entry of a package list as a requirement, or what is wrong with it."""
    trouble = bad_characters(text, ascii_only=True)
    hint = "Write one package, for example numpy>=1.26,<3."
    if trouble:
        return LineProblem(1, shorten(text), trouble, hint)
    if not text.strip():
        return LineProblem(1, "", "it is empty", hint)
    if len(text) > MAX_PACKAGE:
        return LineProblem(1, shorten(text), f"it is longer than {MAX_PACKAGE} characters", hint)
    if _COMMENT.search(text):
        return LineProblem(1, shorten(text), "a comment is not possible here", hint)
    line = read_line(text.strip(), policy=policy)
    if isinstance(line, RequirementLine) and (line.hashes or not line.name):
        return LineProblem(
            1, shorten(text), "options such as --hash are not possible here",
            "Write it into the requirements text.",
        )  # fmt: skip
    return line


def _join_lines(physical: list[str]) -> Iterator[_Joined]:
    """Join lines as pip does: a backslash at the end goes on, a whole comment line ends it."""
    parts: list[str] = []
    first, swallows = 0, False
    for number, line in enumerate(physical, start=1):
        if not parts:
            first, swallows = number, False
        whole_comment = _WHOLE_COMMENT.match(line) is not None
        if line.endswith("\\") and not whole_comment:
            swallows = swallows or _COMMENT.search(line) is not None
            parts.append(line.strip("\\"))
            continue
        parts.append(f" {line}" if whole_comment else line)
        yield _Joined(first, number, "".join(parts), swallows)
        parts = []
    if parts:  # the text ends in a backslash: pip takes the line as it is
        yield _Joined(first, len(physical), "".join(parts), swallows)


def _read_joined(
    joined: _Joined, policy: RequirementsPolicy
) -> RequirementLine | LineProblem | None:
    text = joined.text.replace("\t", " ").strip()
    if not text:
        return None
    result = _read_text(text, joined.swallows, policy)
    if isinstance(result, LineProblem):
        return replace(result, number=joined.first, last_number=joined.last)
    return result.placed(joined.first, joined.last)


@lru_cache(maxsize=8192)  # the page asks again at every change, most lines are the same
def _read_text(
    text: str, swallows: bool, policy: RequirementsPolicy
) -> RequirementLine | LineProblem:
    """Return what a joined line means, wherever it stands."""
    trouble = _line_trouble(text, swallows)
    if trouble:
        return LineProblem(1, shorten(text), *trouble)
    match = _COMMENT.search(text) if "#" in text else None
    code = text[: match.start()].strip() if match else text
    comment = text[match.start() :].strip() if match else ""
    if not code:
        return RequirementLine(number=1, text=comment, is_comment=True)
    result = read_line(code, policy=policy)
    if isinstance(result, LineProblem) or not comment:
        return result
    return result.placed(1, 1, comment)


def _line_trouble(text: str, swallows: bool) -> tuple[str, str] | None:
    if len(text) > MAX_LINE:
        return f"the line is longer than {MAX_LINE} characters", "Shorten it."
    trouble = bad_characters(text)
    if trouble:
        return trouble, "Type the line anew instead of pasting it."
    if swallows or (not text.startswith("#") and text.endswith("\\")):
        return (
            "a comment ends in a backslash: pip would take the next line for part of it",
            "Remove the backslash.",
        )
    coding = _CODING.search(text) if text.startswith("#") else None
    if coding and coding[1].lower() not in ("utf-8", "utf8"):
        return (
            f"pip would read the whole file in the encoding “{shorten(coding[1])}”",
            "Remove the comment; the text is UTF-8.",
        )
    return None


def _settle_duplicates(
    lines: list[RequirementLine],
) -> tuple[list[RequirementLine], list[LineProblem], list[LineProblem]]:
    """Keep equal lines once, refuse two lines that want different things of one package."""
    kept: list[RequirementLine] = []
    notes: list[LineProblem] = []
    clashes: list[LineProblem] = []
    seen: dict[str, list[RequirementLine]] = {}
    for line in lines:
        same = seen.setdefault(line.name, []) if line.name else []
        twin = next((other for other in same if _are_equal(line, other)), None)
        rival = next((other for other in same if not _can_stand_together(line, other)), None)
        if twin:
            notes.append(_about(line, f"{line.name} is already in line {twin.number}"))
            continue
        if rival:
            reason = f"{line.name} is asked for differently in line {rival.number}"
            clashes.append(_about(line, reason, f"Keep one: “{shorten(rival.text)}” or this."))
            continue
        same.append(line)
        kept.append(line)
    return kept, notes, clashes


def _are_equal(one: RequirementLine, other: RequirementLine) -> bool:
    return _wish(one) == _wish(other) and set(one.hashes) == set(other.hashes)


def _wish(line: RequirementLine) -> tuple[str, frozenset[str], str, str]:
    wanted: Requirement | None = line.requirement
    extras = frozenset(wanted.extras) if wanted else frozenset()
    marker = str(wanted.marker) if wanted and wanted.marker else ""
    return (wanted.url or "") if wanted else "", extras, line.specifier, marker


def _can_stand_together(one: RequirementLine, other: RequirementLine) -> bool:
    """Say whether two lines of one package are for different environments."""
    first, second = _wish(one)[3], _wish(other)[3]
    return bool(first and second and first != second)


def _about(line: RequirementLine, reason: str, hint: str = "") -> LineProblem:
    return LineProblem(line.number, shorten(line.text), reason, hint, line.last_number)


def _count_problem(lines: list[RequirementLine]) -> list[LineProblem]:
    packages = [line for line in lines if line.name]
    if len(packages) <= MAX_LINES:
        return []
    first = packages[MAX_LINES]
    return [_about(first, f"there are more than {MAX_LINES} packages", "Remove some.")]
