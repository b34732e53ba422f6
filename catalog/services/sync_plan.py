"""The difference between the catalogue's rows and a catalogue file, and how it reads.

Not in charge of: applying it (`sync`), reading files. Writes nothing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from catalog.entries import CatalogEntry, Key, ParsedCatalog, Problem
from catalog.frameworks import normalise_framework
from catalog.models import Image
from catalog.models.image import write_architectures


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncReport:
    """What a synchronisation did, or with `dry_run` would do. Texts name rows for people."""

    source: str
    dry_run: bool
    added: tuple[str, ...]
    changed: tuple[str, ...]
    restored: tuple[str, ...]
    retired: tuple[str, ...]
    unchanged: int
    bad: tuple[Problem, ...]
    blank: int
    comments: int
    cut_off: bool

    @property
    def loaded(self) -> int:
        """Return how many rows of the file are usable."""
        return len(self.added) + len(self.changed) + len(self.restored) + self.unchanged

    @property
    def is_quiet(self) -> bool:
        """Say whether nothing changes."""
        return not (self.added or self.changed or self.restored or self.retired)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**dataclasses.asdict(self), "loaded": self.loaded}


@dataclass(slots=True)
class Plan:
    """The difference between rows and entries; `pairs` are (row, entry, position)."""

    pairs: list[tuple[Image, CatalogEntry, int]]
    new: list[tuple[CatalogEntry, int]]
    vanished: list[Image]


def make_plan(parsed: ParsedCatalog, rows: list[Image]) -> Plan:
    """Pair the file's entries with the rows they mean; the rest is new, or has vanished."""
    left = {_row_key(row): row for row in rows}
    pairs: list[tuple[Image, CatalogEntry, int]] = []
    unmatched: list[tuple[CatalogEntry, int]] = []
    for position, entry in enumerate(parsed.entries):
        row = left.pop(entry.key, None)
        if row is None:
            unmatched.append((entry, position))
        else:
            pairs.append((row, entry, position))
    # A row whose list of architectures changed is the same row when the image is the same.
    by_image = {(key[0], key[1], row.reference): key for key, row in left.items()}
    new: list[tuple[CatalogEntry, int]] = []
    for entry, position in unmatched:
        key = by_image.pop((entry.key[0], entry.key[1], entry.reference), None)
        if key is None:
            new.append((entry, position))
        else:
            pairs.append((left.pop(key), entry, position))
    # A file that ends within a line says nothing about what may have followed.
    gone = [] if parsed.cut_off else [row for row in left.values() if not row.is_retired]
    return Plan(pairs=pairs, new=new, vanished=gone)


def _row_key(row: Image) -> Key:
    return row.framework_slug, row.version.lower(), tuple(row.architecture_list)


def describe_plan(plan: Plan, parsed: ParsedCatalog, *, source: str, dry_run: bool) -> SyncReport:
    """Return the report of a plan."""
    pairs = [(row, entry) for row, entry, _position in plan.pairs]
    changed = [_describe_change(row, entry) for row, entry in pairs if _differs(row, entry)]
    restored = [_name(entry) for row, entry in pairs if comes_back(row)]
    return SyncReport(
        source=source,
        dry_run=dry_run,
        added=tuple(_name(entry) for entry, _position in plan.new),
        changed=tuple(changed),
        restored=tuple(restored),
        retired=tuple(_name_row(row) for row in plan.vanished),
        unchanged=len(pairs) - len(changed) - len(restored),
        bad=parsed.problems,
        blank=parsed.blank,
        comments=parsed.comments,
        cut_off=parsed.cut_off,
    )


def entry_values(entry: CatalogEntry) -> dict[str, Any]:
    """Return the columns of an image row that an entry decides."""
    return {
        "framework": entry.framework,
        "framework_slug": normalise_framework(entry.framework),
        "version": entry.version,
        "architectures": write_architectures(entry.architectures),
        "reference": entry.reference,
    }


def differences(row: Image, entry: CatalogEntry) -> dict[str, tuple[str, str]]:
    """Return column → (old, new) of what the entry changes."""
    return {
        name: (getattr(row, name), value)
        for name, value in entry_values(entry).items()
        if getattr(row, name) != value
    }


def _differs(row: Image, entry: CatalogEntry) -> bool:
    return bool(differences(row, entry)) and not comes_back(row)


def comes_back(row: Image) -> bool:
    """Say whether a row that is listed was retired only because it was not."""
    return row.retired_cause == Image.RetiredCause.VANISHED


def _name(entry: CatalogEntry) -> str:
    return f"{entry.framework} {entry.version} [{';'.join(entry.architectures)}] {entry.reference}"


def _name_row(row: Image) -> str:
    return f"{row.framework} {row.version} [{';'.join(row.architecture_list)}] {row.reference}"


def _describe_change(row: Image, entry: CatalogEntry) -> str:
    parts = [f"{old} → {new}" for old, new in differences(row, entry).values()]
    return f"{entry.framework} {entry.version}: {', '.join(parts)}"
