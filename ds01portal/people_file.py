"""Read people from CSV text: rows with line numbers, and every problem of the file.

Pure: knows no database. Not in charge of: whether names, groups and numbers are possible
(services.people decides).
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _csv import Reader

REQUIRED: Final = ("username", "email", "group")
OPTIONAL: Final = ("uid", "gid")
MAX_CHARACTERS: Final = 2_000_000
MAX_DIGITS: Final = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class PersonRow:
    """One line: what the file wants somebody to be."""

    line: int
    username: str
    email: str
    group: str
    uid: int | None
    gid: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Something wrong, and where."""

    line: int
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}"


def decode_people(data: bytes) -> str | Problem:
    """Return the text of a UTF-8 file, or the problem with the line of the first bad byte."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return Problem(line=line, message="the file is not UTF-8; save it as CSV UTF-8")


def parse_people(text: str) -> tuple[list[PersonRow], list[Problem]]:
    """Return the good rows and the problems; separators are commas or semicolons."""
    text = text.removeprefix("\ufeff")
    if not text.strip():
        return [], [Problem(line=1, message="the file is empty")]
    if len(text) > MAX_CHARACTERS:
        return [], [Problem(line=1, message=f"the file has more than {MAX_CHARACTERS} characters")]
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        return [], [Problem(line=line, message="there is a NUL character; this is not a CSV file")]
    first = text.lstrip().partition("\n")[0]
    separator = ";" if first.count(";") > first.count(",") else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    return _read_rows(reader)


def _read_rows(reader: Reader) -> tuple[list[PersonRow], list[Problem]]:
    rows: list[PersonRow] = []
    problems: list[Problem] = []
    header: list[str] = []
    seen: dict[str, int] = {}
    line = 1
    try:
        for fields in reader:
            first_line, line = line, reader.line_num + 1
            values = [value.strip() for value in fields]
            if not any(values):
                continue
            if not header:
                header = [value.lower() for value in values]
                problems += _check_header(header, first_line)
                if problems:
                    break
                continue
            row = _read_row(header, values, first_line, seen)
            if isinstance(row, Problem):
                problems.append(row)
            else:
                rows.append(row)
    except csv.Error as error:
        problems.append(Problem(line=reader.line_num, message=f"not readable as CSV: {error}"))
    if not problems and not rows:
        problems.append(Problem(line=1, message="there is a header, but nobody below it"))
    return rows, problems


def _check_header(header: list[str], line: int) -> list[Problem]:
    missing = [name for name in REQUIRED if name not in header]
    unknown = [name[:40] for name in header if name not in REQUIRED + OPTIONAL]
    twice = sorted({name for name in header if header.count(name) > 1 and name not in unknown})
    problems = []
    if missing:
        problems.append(f"columns are missing: {', '.join(missing)}")
    if unknown:
        problems.append(f"unknown columns: {', '.join(name or '(empty)' for name in unknown)}")
    if twice:
        problems.append(f"columns are there twice: {', '.join(twice)}")
    hint = f"; the first line names the columns: {','.join(REQUIRED)}, optional uid,gid"
    return [Problem(line=line, message=problem + hint) for problem in problems]


def _read_row(
    header: list[str], values: list[str], line: int, seen: dict[str, int]
) -> PersonRow | Problem:
    if len(values) != len(header):
        return Problem(line=line, message=f"{len(values)} fields instead of {len(header)}")
    named = dict(zip(header, values, strict=True))
    for name in ("username", "group"):
        if not named[name]:
            return Problem(line=line, message=f"the {name} is empty")
    for name in OPTIONAL:
        number = named.get(name, "")
        if number and not (number.isascii() and number.isdigit() and len(number) <= MAX_DIGITS):
            return Problem(line=line, message=f"the {name} “{number[:40]}” is not a number")
    for key in (f"username {named['username'].casefold()}", f"uid {named.get('uid') or ''}"):
        earlier = seen.setdefault(key, line)
        if earlier != line and key != "uid ":
            return Problem(line=line, message=f"the {key} is in line {earlier} already")
    return PersonRow(
        line=line,
        username=named["username"],
        email=named["email"],
        group=named["group"],
        uid=int(named["uid"]) if named.get("uid") else None,
        gid=int(named["gid"]) if named.get("gid") else None,
    )
