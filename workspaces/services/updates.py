"""Follow the ticks that say “this changed”: what was missed, and what comes.

PostgreSQL gives ids out before it commits, so a lower id may appear after a higher one. Ids
that were jumped over are looked for again for a while, and a place to resume from never lies
behind one of them. Not in charge of: writing ticks (`ds01portal.services.events`), the wire.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.db import Error, connection, connections
from django.db.models import Max, Min, Q, QuerySet
from django.utils import timezone

from ds01portal.models import Person, Update

logger = logging.getLogger(__name__)

POLL = 0.015  # seconds; a look costs one query on the primary key
RETRY = 1.0  # seconds after a look that failed
GAP_LIFETIME = 5.0  # seconds; transactions that announce something are shorter
MAX_GAPS = 200
MAX_REPLAY = 500  # more is not worth telling one by one
PROBE = f"SELECT 1 FROM {Update._meta.db_table} WHERE id > %s LIMIT 1"  # noqa: S608
FIELDS = ("id", "subject", "owner_id", "data")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """One change. `cursor` is where to resume after it, never above a tick still to come."""

    id: int
    subject: str
    owner_id: int | None
    data: dict[str, Any] = field(default_factory=dict)
    cursor: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Missed:
    """What came after a cursor; not `complete` means: look at everything again."""

    ticks: tuple[Tick, ...] = ()
    cursor: int
    complete: bool = True


def visible_updates(*, person: Person) -> QuerySet[Update]:
    """Return the ticks a person may hear: their own and everybody's; all of them for an admin."""
    rows = Update.objects.order_by("id")
    return rows if person.is_staff else rows.filter(Q(owner_id=person.pk) | Q(owner_id=None))


def missed_updates(*, person: Person, after: int | None, overlap: dt.timedelta) -> Missed:
    """Return what a page missed since `after`, a cursor it was given.

    Without one, return the ticks of the last `overlap`: a page is made before it listens.
    """
    reader = UpdateReader()
    reader.start()
    rows = visible_updates(person=person).filter(id__lte=reader.last)
    if after is None:
        rows = rows.filter(created_at__gte=timezone.now() - overlap)
    elif not _is_covered(after, reader.last):
        return Missed(cursor=reader.cursor, complete=False)
    else:
        rows = rows.filter(id__gt=after)
    found = list(rows.values_list(*FIELDS)[: MAX_REPLAY + 1])
    if len(found) > MAX_REPLAY:
        return Missed(cursor=reader.cursor, complete=False)
    ticks = tuple(
        Tick(id=pk, subject=subject, owner_id=owner, data=data, cursor=min(pk, reader.cursor))
        for pk, subject, owner, data in found
    )
    return Missed(ticks=ticks, cursor=reader.cursor)


def _is_covered(after: int, last: int) -> bool:
    """Tell whether every tick after the cursor is still there; ticks are forgotten in time."""
    oldest: int | None = Update.objects.aggregate(oldest=Min("id"))["oldest"]
    if oldest is None:
        return after == 0
    return oldest - 1 <= after <= last


class UpdateReader:
    """Reads each tick once, whatever the order of commits. `now` is a monotonic clock."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self.last = 0
        self._now = now
        self._gaps: dict[int, float] = {}  # id → when it is given up

    @property
    def cursor(self) -> int:
        """Highest id below which nothing is still to come."""
        return min(self._gaps) - 1 if self._gaps else self.last

    def start(self) -> None:
        """Stand at the end of what there is; what may still come in between counts as new."""
        newest = Update.objects.order_by("-id").values_list("id", "created_at")[: MAX_GAPS + 1]
        since = timezone.now() - dt.timedelta(seconds=GAP_LIFETIME)
        recent = [pk for pk, created_at in newest if created_at >= since]
        self.last = Update.objects.aggregate(last=Max("id"))["last"] or 0
        if recent:
            self.last = recent[0]
            self._note_gaps(recent[-1], recent)

    def read(self) -> list[Tick]:
        """Return what came since the last look, in the order of ids."""
        if not self._gaps and not self._has_news():
            return []
        where = Q(id__gt=self.last)
        if self._gaps:
            where |= Q(id__in=list(self._gaps))
        rows = list(Update.objects.filter(where).order_by("id").values_list(*FIELDS))
        if rows:
            ids = [row[0] for row in rows]
            self._note_gaps(self.last + 1, ids)
            self.last = max(self.last, ids[-1])
            for found in ids:
                self._gaps.pop(found, None)
        self._give_up_gaps()
        cursor = self.cursor
        return [
            Tick(id=pk, subject=subject, owner_id=owner, data=data, cursor=min(pk, cursor))
            for pk, subject, owner, data in rows
        ]

    def _has_news(self) -> bool:
        """Ask by hand: composing a query takes ten times as long as answering this one."""
        with connection.cursor() as cursor:
            cursor.execute(PROBE, [self.last])
            return cursor.fetchone() is not None

    def _note_gaps(self, first: int, ids: list[int]) -> None:
        highest, until = max(ids), self._now() + GAP_LIFETIME
        # A sequence may jump by a million; that far back nothing is under way.
        for one in set(range(max(first, highest - MAX_GAPS), highest)).difference(ids):
            self._gaps[one] = until

    def _give_up_gaps(self) -> None:
        if self._gaps:
            now = self._now()
            self._gaps = {one: until for one, until in self._gaps.items() if until > now}


class UpdatePoller:
    """One thread, with one database connection, that looks for ticks until it is stopped.

    `on_ready` and `on_ticks` are called in that thread.
    """

    def __init__(
        self, *, on_ready: Callable[[], None], on_ticks: Callable[[list[Tick], int], None]
    ) -> None:
        self._on_ready = on_ready
        self._on_ticks = on_ticks
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="updates", daemon=True)

    def start(self) -> None:
        """Begin; ticks committed after `on_ready` are all told."""
        self._thread.start()

    def stop(self) -> None:
        """End soon; the thread gives its connection back."""
        self._stopping.set()

    def join(self, timeout: float) -> None:
        """Wait until it has ended."""
        self._thread.join(timeout)

    def _run(self) -> None:
        reader, started, pause = UpdateReader(), False, 0.0
        try:
            while not self._stopping.wait(pause):
                pause = POLL
                try:
                    if started:
                        self._tell(reader)
                    else:
                        reader.start()
                        started = True
                        self._on_ready()
                except Error:
                    logger.exception("updates cannot be read")
                    connections.close_all()
                    pause = RETRY
        finally:
            connections.close_all()

    def _tell(self, reader: UpdateReader) -> None:
        ticks = reader.read()
        if ticks:
            self._on_ticks(ticks, reader.cursor)
