"""Uploaded files that name dependencies: refused by name, size and bytes, or read. Pure.

The bytes are looked at, never written anywhere, so a file's name is a word and no place. Not in
charge of: opening files of a workspace.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from catalog.recipes.environments import read_environment
from catalog.recipes.imported import Imported
from catalog.recipes.projects import read_project
from catalog.recipes.requirement_line import ARCHIVES
from catalog.recipes.requirements import MAX_BYTES, STRICT, RequirementsPolicy, parse_requirements
from catalog.recipes.texts import bad_characters, shorten, split_lines
from ds01portal.exceptions import InvalidInput

MAX_NAME = 255

_KINDS = "a requirements.txt, an environment.yml or a pyproject.toml"
_ARCHIVE_BYTES = (
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ",
    b"7z\xbc\xaf",
    b"Rar!",
    b"\x7fELF",
)
_CONDA = re.compile(r"^dependencies:\s*$", re.MULTILINE)


def read_dependency_file(
    name: str,
    data: bytes,
    *,
    policy: RequirementsPolicy = STRICT,
    extras: Sequence[str] = (),
) -> Imported:
    """Return what a file asks for. Raise InvalidInput (field `file`) for one that is not read.

    A requirements file comes back as it was typed, so that problems keep their line numbers.
    """
    _check_name(name)
    text = _read_text(name, data)
    lower = name.lower()
    if lower.endswith((".yml", ".yaml")):
        return read_environment(text, policy=policy)
    if lower.endswith(".toml"):
        return read_project(text, extras=extras, policy=policy)
    if "." in name and not lower.endswith((".txt", ".in", ".pip")):
        raise _refuse(name, "this kind of file is not read", f"Upload {_KINDS}.")
    if _CONDA.search(text):
        return read_environment(text, policy=policy)
    parsed = parse_requirements(text, policy=policy)
    notes = tuple(f"Line {note.number}: {note.reason}." for note in parsed.notes)
    lines = split_lines(text)
    while lines and not lines[-1].strip():
        lines.pop()
    return Imported(requirements=tuple(lines), notes=notes, problems=parsed.problems)


def _check_name(name: str) -> None:
    if not name or len(name) > MAX_NAME or bad_characters(name):
        raise _refuse(name, "the file's name is not usable", f"Name it like {_KINDS}.")
    if "/" in name or "\\" in name or ".." in name or ":" in name:
        raise _refuse(name, "the name leads to another folder", "Upload the file by itself.")
    if name.lower().endswith(ARCHIVES):
        raise _refuse(name, "archives are not unpacked", f"Upload {_KINDS}, not packed.")


def _read_text(name: str, data: bytes) -> str:
    if len(data) > MAX_BYTES:
        reason = f"it is larger than {MAX_BYTES // 1024} KB"
        raise _refuse(name, reason, "Keep only what you import yourself; pip finds the rest.")
    if data.startswith(_ARCHIVE_BYTES):
        raise _refuse(name, "it is an archive or a program", f"Upload {_KINDS}.")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        hint = "Save it as UTF-8; in PowerShell: pip freeze | Out-File -Encoding utf8 …"
        raise _refuse(name, "it is UTF-16, not UTF-8", hint)
    if b"\0" in data:
        raise _refuse(name, "it is not a text (it has NUL bytes)", f"Upload {_KINDS}.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _refuse(name, f"line {line} is not UTF-8", "Save it as UTF-8.", line=line) from error


def _refuse(name: str, reason: str, hint: str, line: int = 0) -> InvalidInput:
    return InvalidInput(
        f"“{shorten(name)}” is not read: {reason}.",
        hint=hint,
        field="file",
        value=shorten(name),
        reason=reason,
        line=line,
    )
