"""Dependencies of a pyproject.toml, of the standard table or of Poetry's. Pure.

Not in charge of: installing the project itself, its build system, or its groups for development.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from catalog.recipes.imported import Imported
from catalog.recipes.names import canonical_name
from catalog.recipes.requirements import (
    STRICT,
    LineProblem,
    RequirementLine,
    RequirementsPolicy,
    check_package,
)
from catalog.recipes.texts import shorten

MAX_CHARACTERS = 64 * 1024

_VERSION = re.compile(r"[0-9]+(?:\.[0-9]+)*")
_PLAIN_POETRY = frozenset({"version", "extras", "optional", "markers", "python"})


class _Reading:
    """A file under way; lines are looked up in its text."""

    def __init__(self, text: str, policy: RequirementsPolicy) -> None:
        self._rows = text.splitlines()
        self._policy = policy
        self.lines: list[str] = []
        self.notes: list[str] = []
        self.problems: list[LineProblem] = []

    def refuse(self, about: str, reason: str, hint: str) -> None:
        rows = enumerate(self._rows, start=1)
        line = next((number for number, row in rows if about and about in row), 0)
        self.problems.append(LineProblem(line, shorten(about), reason, hint))

    def add(self, about: object, text: str = "") -> None:
        if not isinstance(about, str):
            self.refuse("", "an entry is not a text", "Write each dependency in quotes.")
            return
        found = check_package(text or about, policy=self._policy)
        if isinstance(found, RequirementLine):
            self.lines.append(found.text)
        else:
            self.refuse(about, found.reason, found.hint)

    def done(self) -> Imported:
        lines = tuple(dict.fromkeys(self.lines))
        return Imported(requirements=lines, notes=tuple(self.notes), problems=tuple(self.problems))


def read_project(
    text: str, *, extras: Sequence[str] = (), policy: RequirementsPolicy = STRICT
) -> Imported:
    """Return a project's dependencies, with those of the chosen optional `extras`."""
    reading = _Reading(text, policy)
    if len(text) > MAX_CHARACTERS:
        reading.refuse("", "the file is larger than 64 KB", "Keep only the dependencies.")
        return reading.done()
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        found = re.search(r"line (\d+)", str(error))
        reason = f"this is not TOML: {shorten(str(error), 120)}"
        problem = LineProblem(int(found[1]) if found else 1, "", reason, "Correct the file.")
        return Imported(requirements=(), problems=(problem,))
    tool = data.get("tool")
    poetry = tool.get("poetry") if isinstance(tool, dict) else None
    if isinstance(data.get("project"), dict):
        _read_standard(reading, data["project"], extras)
    if isinstance(poetry, dict) and isinstance(poetry.get("dependencies"), dict):
        _read_poetry(reading, poetry["dependencies"])
    elif not isinstance(data.get("project"), dict):
        hint = "Put them into [project] dependencies."
        reading.refuse("", "the file has no dependencies of a project", hint)
    return reading.done()


def _read_standard(reading: _Reading, project: Mapping[str, Any], extras: Sequence[str]) -> None:
    dynamic = project.get("dynamic")
    if isinstance(dynamic, list) and "dependencies" in dynamic:
        hint = "Upload the requirements file that they are read from."
        reading.refuse("dynamic", "the dependencies are made when the project is built", hint)
    _read_list(reading, project.get("dependencies", []), "dependencies")
    if "requires-python" in project:
        wanted = shorten(str(project["requires-python"]))
        reading.notes.append(f"The project wants Python {wanted}; the base's Python counts.")
    optional = project.get("optional-dependencies", {})
    if not isinstance(optional, dict):
        reading.refuse("optional-dependencies", "it is not a table of lists", "Correct the file.")
        return
    known = {canonical_name(name): packages for name, packages in optional.items()}
    for extra in extras:
        if canonical_name(extra) not in known:
            hint = f"There are: {', '.join(sorted(map(shorten, known))) or 'none'}."
            reading.refuse(extra, "the project has no such optional group", hint)
            continue
        _read_list(reading, known.pop(canonical_name(extra)), extra)
    if known:
        names = ", ".join(sorted(shorten(name) for name in known))
        reading.notes.append(f"Optional groups that are not taken over: {names}.")


def _read_list(reading: _Reading, packages: object, name: str) -> None:
    if not isinstance(packages, list):
        reading.refuse(name, f"“{name}” is not a list", "Write a list of texts.")
        return
    for package in packages:
        reading.add(package)


def _read_poetry(reading: _Reading, dependencies: Mapping[str, Any]) -> None:
    for name, wish in dependencies.items():
        if name.lower() == "python":
            reading.notes.append("Poetry's Python version is not taken over; the base's counts.")
            continue
        versions = wish.get("version", "*") if isinstance(wish, dict) else wish
        if isinstance(wish, dict) and not wish.keys() <= _PLAIN_POETRY:
            reading.refuse(name, "it comes from a folder or an address", "Name a version of it.")
            continue
        specifier = _read_poetry_versions(versions) if isinstance(versions, str) else None
        if specifier is None:
            hint = f"Write {shorten(name)} with a version that pip knows, for example >=1.2,<2."
            reading.refuse(name, "Poetry's version is not understood", hint)
            continue
        if isinstance(wish, dict) and wish.get("optional"):
            reading.notes.append(f"{shorten(name)} is optional and not taken over.")
            continue
        reading.add(name, _write_poetry(name, specifier, wish))


def _write_poetry(name: str, specifier: str, wish: object) -> str:
    extras = wish.get("extras", []) if isinstance(wish, dict) else []
    marker = wish.get("markers", "") if isinstance(wish, dict) else ""
    names = ",".join(map(str, extras)) if isinstance(extras, list) else ""
    return f"{name}{f'[{names}]' if names else ''}{specifier}{f'; {marker}' if marker else ''}"


def _read_poetry_versions(text: str) -> str | None:
    """Return `^1.2`, `~1.2`, `1.2.*`, `>=1,<2` in pip's notation, None for anything else."""
    parts = []
    for clause in (part.strip() for part in text.split(",")):
        sign, number = clause[:1], clause[1:].strip()
        if clause == "*":
            continue
        if sign == "^" and _VERSION.fullmatch(number):
            parts.append(f">={number},<{_next_version(number, caret=True)}")
        elif sign == "~" and _VERSION.fullmatch(number):
            parts.append(f">={number},<{_next_version(number, caret=False)}")
        elif re.fullmatch(r"(==|>=|<=|!=|~=|>|<)\s*[0-9][A-Za-z0-9.+!*-]*", clause):
            parts.append(clause)
        elif re.fullmatch(r"[0-9][A-Za-z0-9.+!-]*(\.\*)?", clause):
            parts.append(f"=={clause}")
        else:
            return None
    return ",".join(parts)


def _next_version(version: str, *, caret: bool) -> str:
    """Return the first version outside: after the first part that is not 0, or the second."""
    numbers = [int(part) for part in version.split(".")]
    if caret:
        place = next((i for i, number in enumerate(numbers) if number), len(numbers) - 1)
    else:
        place = min(1, len(numbers) - 1)
    return ".".join(str(number) for number in [*numbers[:place], numbers[place] + 1])
