"""Compare rows with the engine in both directions.

Three answers: running, stopped (with evidence), unknown. Unknown changes nothing: when the
one listing fails, nothing is written but since when the engine is away. Rows with an operation
under way belong to that operation. Costs one listing, one `inspect` per change and one per
foreign container (once per process).
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field
from typing import Any

from django.db import transaction
from django.utils import timezone

from ds01portal.engine import get_engine
from ds01portal.engine.base import ContainerEngine, ContainerSummary, Observed
from ds01portal.exceptions import (
    EngineError,
    EngineTimeout,
    EngineUnreachable,
    MissingOnEngine,
)
from ds01portal.models import Operation
from ds01portal.services.events import record_event
from workspaces.models import Container, Device, Machine
from workspaces.services import adoption, assignments, observations
from workspaces.services.creation import discard_leftovers
from workspaces.services.guard import guard_devices
from workspaces.services.machine import note_reachable, note_unreachable

logger = logging.getLogger(__name__)
State = Container.State
_details = adoption.DetailsCache()


@dataclass(kw_only=True)
class ReconcileReport:
    """What was compared and what changed, by name on the engine."""

    rows: int = 0
    on_engine: int = 0
    changed: list[str] = field(default_factory=list)
    adopted: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    foreign_uses: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def reconcile_containers(
    *, engine: ContainerEngine | None = None, dry_run: bool = False
) -> ReconcileReport:
    """Bring rows in line with the engine. Raise EngineError, changing nothing, when it is away."""
    chosen = engine or get_engine()
    # Rows are read before the listing: a settled row has its container on the engine by then.
    rows = _rows_to_compare()
    try:
        listed = chosen.list_containers()
    except EngineError as error:
        note_unreachable(error=error)
        raise
    came_back = note_reachable()
    report = ReconcileReport(rows=len(rows), on_engine=len(listed))
    by_name = {summary.name: summary for summary in listed}
    for container in rows:
        try:
            _compare(container, by_name.get(container.engine_name), chosen, report, dry_run)
        except (EngineUnreachable, EngineTimeout):
            raise
        except EngineError as error:
            # One container that Docker stumbles over must not hide the others.
            logger.warning("%s: %s %s", container, error.message, error.cause)
    _look_at_foreign(listed, chosen, report, dry_run)
    if not dry_run:
        _details.keep_only({summary.id for summary in listed})
        if came_back or _outage_is_recent():
            observations.explain_outage_stops()
        Machine.objects.filter(pk=1).update(reconciled_at=timezone.now())
    return report


def _outage_is_recent() -> bool:
    until = Machine.current().outage_until
    return until is not None and timezone.now() - until < observations.OUTAGE_MARGIN


def _rows_to_compare() -> list[Container]:
    """Return live rows without an operation under way."""
    live = Operation.objects.live().filter(subject_kind="container")
    busy = set(live.values_list("subject_id", flat=True))
    rows = Container.objects.live().exclude(state=State.FAILED).select_related("owner")
    return [row for row in rows if str(row.pk) not in busy]


def _is_settled(container: Container, seen: Observed) -> bool:
    state = observations.STATE_OF.get(seen)
    return state is None or state == container.state


def _compare(
    container: Container,
    summary: ContainerSummary | None,
    engine: ContainerEngine,
    report: ReconcileReport,
    dry_run: bool,
) -> None:
    if summary is None:
        if _is_busy(container) or not _is_missing(container, engine):
            return
        report.gone.append(container.engine_name)
        if not dry_run:
            _store_gone(container, engine)
        return
    same = _is_settled(container, summary.state) and container.engine_id == summary.id
    if not same:
        report.changed.append(container.engine_name)
        if not dry_run:
            _observe(container, summary, engine)
    running = summary.state in adoption.USING
    own = container.origin == Container.Origin.PORTAL
    if own and running and not dry_run and guard_devices(container=container, engine=engine):
        report.stopped.append(container.engine_name)


def _is_missing(container: Container, engine: ContainerEngine) -> bool:
    """Look once more by name: a recreation may have run while the listing was made."""
    try:
        engine.inspect_container(container.engine_name)
    except MissingOnEngine:
        return True
    return False


def _observe(container: Container, summary: ContainerSummary, engine: ContainerEngine) -> None:
    try:
        details = engine.inspect_container(summary.id)
    except MissingOnEngine:
        return  # gone in this second; the next round has the evidence
    if not _is_busy(container):
        observations.observe(container=container, details=details)


def _is_busy(container: Container) -> bool:
    """Look once more: a verb may have been asked for since the rows were read."""
    return container.live_operation() is not None


def _store_gone(container: Container, engine: ContainerEngine) -> None:
    """Record a removal outside of the portal; the evidence is a complete listing without it."""
    discard_leftovers(container, engine)
    with transaction.atomic():
        moved = Container.objects.filter(pk=container.pk, state=container.state).update(
            state=State.REMOVED
        )
        if not moved:
            return
        assignments.release_devices(
            container=container, reason="the container was removed outside of the portal"
        )
        observations.store_ended(container=container, state=State.REMOVED)
        record_event(
            verb="seen removed",
            **container.subject,
            owner=container.owner,
            after={"state": State.REMOVED},
            reason="It was removed outside of the portal, with mlc or docker.",
        )
    observations.announce(container)


def _look_at_foreign(
    listed: list[ContainerSummary],
    engine: ContainerEngine,
    report: ReconcileReport,
    dry_run: bool,
) -> None:
    """Adopt what has no row, and note the devices that foreign containers use."""
    rows = {row.engine_name: row for row in Container.objects.live().exclude(state=State.FAILED)}
    foreign = [
        summary
        for summary in listed
        if not adoption.belongs_to(summary, rows.get(summary.name))
        and not adoption.is_infrastructure(summary.labels)
        and not adoption.is_build_step(summary)
    ]
    people: adoption.People | None = None
    devices = list(Device.objects.filter(present=True))
    seen: dict[str, tuple[str, Container | None, set[str]]] = {}
    for summary in foreign:
        details = _details.get(engine, summary.id)
        if details is None:
            continue
        row = rows.get(summary.name)
        if row is None and not dry_run:
            people = people or adoption.People()
            row = adoption.adopt_container(summary=summary, details=details, people=people)
        elif row is not None and not dry_run and adoption.is_outdated(row, details):
            people = people or adoption.People()
            adoption.refresh_adopted(container=row, details=details, people=people)
        if summary.name not in rows:
            report.adopted.append(summary.name)
        if summary.state in adoption.USING:
            uuids = adoption.used_devices(details, devices)
            seen[summary.id] = (summary.name, row, uuids)
    if not dry_run:
        report.foreign_uses = adoption.note_foreign_uses(seen=seen)
