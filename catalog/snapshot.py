"""The catalogue that ships with the project, and its file format. Pure.

The format is JSON: framework → version → architecture → image, versions newest first. An image
that serves several architectures of a version is one row. `catalog/data/snapshot.json` holds
generated facts (which published image belongs to which framework, version and architecture).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from catalog.aime import BadLine, check_duplicate, make_entry, parse_aime
from catalog.entries import CatalogEntry, ParsedCatalog, Problem, SeenRows

FORMAT = "ds01-image-catalogue"
FORMAT_VERSION = 1
SNAPSHOT_PATH = Path(__file__).parent / "data" / "snapshot.json"


def parse_catalog(data: bytes) -> ParsedCatalog:
    """Return what a catalogue file says: this module's format, or AIME's lines."""
    return parse_snapshot(data) if data.lstrip().startswith(b"{") else parse_aime(data)


def parse_snapshot(data: bytes) -> ParsedCatalog:
    """Return the entries of a snapshot; what is unusable is named, never raised."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        return _failed(f"not readable as JSON: {error}")
    if document.get("format") != FORMAT or document.get("format_version") != FORMAT_VERSION:
        return _failed(f"not a catalogue in the format {FORMAT} {FORMAT_VERSION}")
    frameworks = document.get("frameworks")
    if not isinstance(frameworks, dict):
        return _failed("'frameworks' is missing")
    entries: list[CatalogEntry] = []
    problems: list[Problem] = []
    seen = SeenRows()
    for framework, versions in frameworks.items():
        if not isinstance(versions, dict) or not versions:
            problems.append(Problem(line=0, reason=f"{framework}: its versions are missing"))
            continue
        for version, images in versions.items():
            _read_version(framework, version, images, entries, problems, seen)
    return ParsedCatalog(entries=tuple(entries), problems=tuple(problems))


def dump_snapshot(entries: list[CatalogEntry], *, about: str) -> str:
    """Return the entries as a snapshot document, in their order."""
    frameworks: dict[str, dict[str, dict[str, str]]] = {}
    for entry in entries:
        images = frameworks.setdefault(entry.framework, {}).setdefault(entry.version, {})
        images.update(dict.fromkeys(entry.architectures, entry.reference))
    document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "about": about,
        "frameworks": frameworks,
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _read_version(
    framework: str,
    version: str,
    images: Any,
    entries: list[CatalogEntry],
    problems: list[Problem],
    seen: SeenRows,
) -> None:
    where = f"{framework} {version}"
    if not isinstance(images, dict) or not images:
        problems.append(Problem(line=0, reason=f"{where}: its images are missing"))
        return
    grouped: dict[str, list[str]] = {}
    for architecture, reference in images.items():
        grouped.setdefault(str(reference), []).append(architecture)
    for reference, architectures in grouped.items():
        try:
            entry = make_entry(
                framework=framework,
                version=version,
                architectures=architectures,
                reference=reference,
                line=0,
            )
            check_duplicate(entry, seen)
        except BadLine as error:
            problems.append(Problem(line=0, reason=f"{where}: {error}"))
        else:
            entries.append(entry)


def _failed(reason: str) -> ParsedCatalog:
    return ParsedCatalog(entries=(), problems=(Problem(line=0, reason=reason),))
