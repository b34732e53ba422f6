"""Bring the catalogue's rows in line with a catalogue file.

First the difference is worked out, then it is applied in one transaction; a dry run stops in
between. Rows that vanish are retired, never deleted, and come back when they are listed again;
what an admin retired stays retired. Not in charge of: reading lines (`catalog.aime`,
`catalog.snapshot`), the engine.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from catalog.entries import CatalogEntry, ParsedCatalog
from catalog.models import CatalogueState, Image
from catalog.services.sync_plan import (
    Plan,
    SyncReport,
    comes_back,
    describe_plan,
    differences,
    entry_values,
    make_plan,
)
from catalog.snapshot import SNAPSHOT_PATH, parse_catalog
from ds01portal.exceptions import InvalidInput, RefusedError
from ds01portal.models import Person
from ds01portal.services.events import announce_update, record_event

__all__ = ["CatalogueRefused", "SyncReport", "sync_catalog"]

MAX_BYTES = 10_000_000  # AIME's file has 10 kB
STORED_PROBLEMS = 200


class CatalogueRefused(RefusedError):
    """The file cannot replace the catalogue; nothing was changed. Fields say what it has."""

    code = "catalogue-refused"


def sync_catalog(
    *,
    source: str | Path = "",
    dry_run: bool = False,
    allow_shrink: bool = False,
    actor: Person | None = None,
) -> SyncReport:
    """Read a catalogue file and add, change, restore and retire rows.

    `source` empty means the setting AIME_CATALOG, and without it the shipped snapshot. Raise
    InvalidInput when the file cannot be read and CatalogueRefused when it has no usable row,
    or (without `allow_shrink`) fewer than half of the rows that are in use.
    """
    path = Path(source or settings.AIME_CATALOG or SNAPSHOT_PATH)
    name = "shipped snapshot" if path == SNAPSHOT_PATH else str(path)
    parsed = parse_catalog(_read_file(path))
    with transaction.atomic():
        CatalogueState.objects.get_or_create(pk=CatalogueState.SINGLETON)
        CatalogueState.objects.select_for_update().get(pk=CatalogueState.SINGLETON)
        rows = list(Image.objects.catalogue().in_order())
        plan = make_plan(parsed, rows)
        _refuse_ruin(parsed, plan, rows, allow_shrink=allow_shrink)
        report = describe_plan(plan, parsed, source=name, dry_run=dry_run)
        if not dry_run:
            _apply(plan, parsed, report, actor)
    return report


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InvalidInput(
            f"The catalogue file {path} cannot be read: {reason}.",
            hint="Check the path in --source or AIME_CATALOG and who may read it.",
            field="source",
        ) from error
    if len(data) > MAX_BYTES:
        raise InvalidInput(
            f"The catalogue file {path} is larger than {MAX_BYTES} bytes.",
            hint="This is probably not a catalogue.",
            field="source",
        )
    return data


def _refuse_ruin(
    parsed: ParsedCatalog, plan: Plan, rows: list[Image], *, allow_shrink: bool
) -> None:
    active = sum(not row.is_retired for row in rows)
    remaining = sum(not row.is_retired for row, _entry, _position in plan.pairs)
    bad = [dataclasses.asdict(problem) for problem in parsed.problems[:STORED_PROBLEMS]]
    if not parsed.entries:
        raise CatalogueRefused(
            "The catalogue file has no usable row; the catalogue stays as it is.",
            hint=f"First problem: {parsed.problems[0]}." if bad else "The file is empty.",
            active=active,
            bad=bad,
            reason="no-rows",
        )
    if plan.vanished and remaining * 2 < active and not allow_shrink:
        raise CatalogueRefused(
            f"The file keeps only {remaining} of the {active} images in use; the catalogue stays "
            "as it is.",
            hint="Check that the file is whole. If it is meant so, use --allow-shrink.",
            active=active,
            remaining=remaining,
            bad=bad,
            reason="shrunk",
        )


def _apply(plan: Plan, parsed: ParsedCatalog, report: SyncReport, actor: Person | None) -> None:
    for row, entry, position in plan.pairs:
        _update_row(row, entry, position, actor)
    for entry, position in plan.new:
        row = Image.objects.create(
            kind=Image.Kind.CATALOG, position=position, **entry_values(entry)
        )
        _record(row, "add", actor, after={"reference": row.reference})
    now = timezone.now()
    for row in plan.vanished:
        row.retired_at = now
        row.retired_cause = Image.RetiredCause.VANISHED
        row.retired_reason = f"not in {report.source}"[:300]
        row.save(update_fields=["retired_at", "retired_cause", "retired_reason", "updated_at"])
        _record(row, "retire", actor, reason="no longer in the catalogue")
    CatalogueState.objects.filter(pk=CatalogueState.SINGLETON).update(
        source=report.source[:500],
        synced_at=now,
        problems=[dataclasses.asdict(item) for item in parsed.problems[:STORED_PROBLEMS]],
    )
    if not report.is_quiet:
        announce_update(subject="catalog", owner_id=None)


def _update_row(row: Image, entry: CatalogEntry, position: int, actor: Person | None) -> None:
    changes = differences(row, entry)
    back = comes_back(row)
    for name, (_old, new) in changes.items():
        setattr(row, name, new)
    if "reference" in changes:
        # Another image: whether that one is on this machine is not known yet.
        row.engine_image_id, row.size_bytes = "", None
    if back:
        row.retired_at, row.retired_reason = None, ""
        row.retired_cause = Image.RetiredCause.NONE
    if changes or back:
        row.position = position
        row.save()
        before = {name: old for name, (old, _new) in changes.items()}
        after = {name: new for name, (_old, new) in changes.items()}
        _record(row, "restore" if back else "change", actor, before=before, after=after)
    elif row.position != position:
        Image.objects.filter(pk=row.pk).update(position=position)


def _record(
    row: Image,
    verb: str,
    actor: Person | None,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    reason: str = "",
) -> None:
    record_event(
        verb=verb,
        subject_kind="image",
        subject_id=str(row.pk),
        subject_label=f"{row} ({row.reference})",
        actor=actor,
        before=before,
        after=after,
        reason=reason,
    )
