"""Read AIME's catalogue file: bytes → entries and named problems. Pure, never raises on content.

A row is `Framework, version, [ARCH;ARCH], image`, newest first. Architectures are a list and
matched by membership. Lines end in LF, CR LF or CR; a byte order mark, blank lines and lines
that begin with `#` are tolerated and counted. Not in charge of: whether so few entries may
replace the catalogue, and any row of the database.
"""

from __future__ import annotations

import re

from catalog.entries import CatalogEntry, ParsedCatalog, Problem, SeenRows
from catalog.references import parse_reference
from ds01portal.exceptions import InvalidInput

NAMES = ("framework", "version", "architectures", "image")
FIELDS = len(NAMES)
CLIP = 120  # characters of a bad line that are repeated in its report
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# No comma can come through: a comma in a label breaks AIME's `mlc list`.
_FRAMEWORK = re.compile(r"[A-Za-z][A-Za-z0-9_.+-]{0,63}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}")
_ARCHITECTURE = re.compile(r"[A-Z][A-Z0-9_]{0,31}")


class BadLine(Exception):
    """A line cannot be used; the text says why. Stays inside of this module and the snapshot's."""


def parse_aime(data: bytes) -> ParsedCatalog:
    """Return every entry of the file, and every unusable line with its number and reason."""
    lines = data.removeprefix(BYTE_ORDER_MARK).splitlines(keepends=True)
    entries: list[CatalogEntry] = []
    problems: list[Problem] = []
    blank = comments = 0
    seen = SeenRows()
    for number, raw in enumerate(lines, start=1):
        stripped = raw.strip()
        if not stripped:
            blank += 1
        elif stripped.startswith(b"#"):
            comments += 1
        else:
            try:
                entries.append(_read_line(stripped, number, seen))
            except BadLine as error:
                text = stripped.decode("utf-8", "replace")[:CLIP]
                problems.append(Problem(line=number, reason=str(error), text=text))
    return ParsedCatalog(
        entries=tuple(entries),
        problems=tuple(problems),
        blank=blank,
        comments=comments,
        cut_off=_is_cut_off(lines, problems),
    )


def make_entry(
    *, framework: str, version: str, architectures: list[str], reference: str, line: int
) -> CatalogEntry:
    """Check the four values of a row, from whichever format; raise BadLine with the reason."""
    if not _FRAMEWORK.fullmatch(framework):
        raise BadLine(f"'{framework[:40]}' is not a framework's name")
    if not _VERSION.fullmatch(version):
        raise BadLine(f"'{version[:40]}' is not a version")
    for architecture in architectures:
        if not _ARCHITECTURE.fullmatch(architecture):
            raise BadLine(f"'{architecture[:40]}' is not an architecture")
    if not architectures:
        raise BadLine("the list of architectures is empty")
    if len(set(architectures)) != len(architectures):
        raise BadLine("an architecture is named twice in the list")
    try:
        parsed = parse_reference(reference)
    except InvalidInput as error:
        raise BadLine(f"not an image reference: {error.fields['reason']}") from error
    return CatalogEntry(
        framework=framework,
        version=version,
        architectures=tuple(sorted(architectures)),
        reference=str(parsed),
        line=line,
    )


def check_duplicate(entry: CatalogEntry, seen: SeenRows) -> None:
    """Raise BadLine when framework, version and an architecture were named before."""
    duplicate = seen.find_duplicate(entry)
    if duplicate is not None:
        architecture, line = duplicate
        where = f" on line {line}" if line else ""
        raise BadLine(
            f"duplicate: {entry.framework} {entry.version} for {architecture} is there{where}"
        )


def _read_line(raw: bytes, number: int, seen: SeenRows) -> CatalogEntry:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadLine(f"not UTF-8 text (byte {error.start + 1})") from error
    fields = [part.strip() for part in text.split(",")]
    if len(fields) != FIELDS:
        raise BadLine(f"{len(fields)} fields, not {FIELDS}: {', '.join(NAMES)}")
    framework, version, bracketed, reference = fields
    for name, value in zip(NAMES, fields, strict=True):
        if not value:
            raise BadLine(f"the field '{name}' is empty")
    entry = make_entry(
        framework=framework,
        version=version,
        architectures=_read_architectures(bracketed),
        reference=reference,
        line=number,
    )
    check_duplicate(entry, seen)
    return entry


def _read_architectures(text: str) -> list[str]:
    if len(text) < 2 or text[0] != "[" or text[-1] != "]":
        raise BadLine("the architectures are not in square brackets, as in [CUDA_ADA;CUDA_AMPERE]")
    inner = text[1:-1].strip()
    if not inner:
        raise BadLine("the list of architectures is empty")
    parts = [part.strip().upper() for part in inner.split(";")]
    if "" in parts:
        raise BadLine("the list of architectures has an empty place")
    return parts


def _is_cut_off(lines: list[bytes], problems: list[Problem]) -> bool:
    return bool(
        lines
        and problems
        and problems[-1].line == len(lines)
        and not lines[-1].endswith((b"\n", b"\r"))
    )
