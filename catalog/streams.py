"""The log of a build, live: one stream of server-sent events for each page that watches it.

Events: `output` with {id, step, at, html}, whose id is the place to resume from; `state` with
{state, steps, …} when the build moved; `end` when nothing more will come. All streams of a build
share one poller in a process, and each piece of the log is rendered once. Not in charge of: who
writes the log (`services.build_output`), the hub (`ds01portal.streaming`).
"""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from asgiref.sync import sync_to_async
from django.db import Error, connection, connections
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.views.decorators.http import require_safe

from catalog.build_progress import describe_progress
from catalog.log_html import render_lines
from catalog.models import Build, BuildOutput
from ds01portal.models import Person
from ds01portal.streaming import (
    Hub,
    HubShelf,
    Subscriber,
    encode_event,
    encode_start,
    follow_hub,
    read_cursor,
    release_thread,
    stream_response,
)

logger = logging.getLogger(__name__)

POLL = 0.025  # seconds; a look costs one query on an index
STATE_EVERY = 0.2  # seconds between two looks at the build's row
RETRY = 1.0  # seconds after a look that failed
BATCH = 50  # pieces that are read at once; well below what may wait for one stream
PROBE = (
    f"SELECT 1 FROM {BuildOutput._meta.db_table} "  # noqa: S608
    "WHERE build_id = %s AND id > %s LIMIT 1"
)
FIELDS = ("id", "step", "at", "text")
END = encode_event("end", "{}", None)


@dataclass(frozen=True, slots=True)
class Piece:
    """Something for all streams: `id` is that of the output, 0 for what has no place."""

    id: int
    event: bytes
    is_last: bool = False


@lru_cache(maxsize=256)
def encode_output(pk: int, step: int, at: str, text: str) -> bytes:
    """Return a piece of the log as an event; rendered once for all who read it."""
    data = {"id": pk, "step": step, "at": at, "html": render_lines(text)}
    return encode_event("output", json.dumps(data, separators=(",", ":")), pk)


def encode_state(state: dict[str, Any]) -> bytes:
    """Return the state of a build as an event without a place."""
    return encode_event("state", json.dumps(state, separators=(",", ":")), None)


def read_pieces(build_id: uuid.UUID, after: int) -> list[Piece]:
    """Return the next pieces of the log, oldest first."""
    rows = BuildOutput.objects.filter(build_id=build_id, id__gt=after).order_by("id")
    return [
        Piece(pk, encode_output(pk, step, at.isoformat(), text))
        for pk, step, at, text in rows.values_list(*FIELDS)[:BATCH]
    ]


def read_state(build_id: uuid.UUID) -> dict[str, Any] | None:
    """Return how far the build is, None when it is gone."""
    build = Build.objects.filter(pk=build_id).select_related("operation", "image").first()
    return describe_progress(build=build) if build else None


class BuildPoller(threading.Thread):
    """Looks for a build's news until it is stopped or the build has ended."""

    def __init__(
        self,
        build_id: uuid.UUID,
        *,
        on_ready: Callable[[], None],
        on_news: Callable[[list[Piece], int], None],
    ) -> None:
        super().__init__(name=f"build-{build_id}", daemon=True)
        self._build_id = build_id
        self._key = Build._meta.pk.get_db_prep_value(build_id, connection)
        self._on_ready = on_ready
        self._on_news = on_news
        self._stopping = threading.Event()
        self._last = -1
        self._state: dict[str, Any] | None = None
        self._next_state = 0.0

    def stop(self) -> None:
        """End soon; the thread gives its connection back."""
        self._stopping.set()

    def run(self) -> None:
        """Poll."""
        pause = 0.0
        try:
            while not self._stopping.wait(pause):
                pause = POLL
                try:
                    if self._look():
                        return
                except Error:
                    logger.exception("the log of a build cannot be read")
                    connections.close_all()
                    pause = RETRY
        finally:
            connections.close_all()

    def _look(self) -> bool:
        """Tell what is new; return True when nothing more will come."""
        if self._last < 0:
            # The state is told to each stream by itself; the log begins where it is now.
            self._last = last_output_id(self._build_id)
            self._state = None
            self._on_ready()
        news: list[Piece] = []
        state = self._state
        if time.monotonic() >= self._next_state:
            self._next_state = time.monotonic() + STATE_EVERY
            # Before the log: what ended has written all of it.
            state = read_state(self._build_id)
        if self._has_output():
            news += read_pieces(self._build_id, self._last)
            self._last = news[-1].id if news else self._last
        if state is not None and state != self._state:
            self._state = state
            news.append(Piece(0, encode_state(state)))
        ended = state is None or not state["live"]
        if ended and not self._has_output():
            news.append(Piece(0, END, is_last=True))
        if news:
            self._on_news(news, self._last)
        return bool(news) and news[-1].is_last

    def _has_output(self) -> bool:
        """Ask by hand: composing a query takes ten times as long as answering this one."""
        with connection.cursor() as cursor:
            cursor.execute(PROBE, [self._key, self._last])
            return cursor.fetchone() is not None


def last_output_id(build_id: uuid.UUID) -> int:
    """Return the id of the last piece, 0 without one."""
    rows = BuildOutput.objects.filter(build_id=build_id).order_by("-id")
    return rows.values_list("id", flat=True).first() or 0


class BuildSubscriber(Subscriber):
    """One page's stream of a build."""

    def __init__(self) -> None:
        super().__init__()
        self.has_last = False  # the end of the log waits to be told
        self.has_lost = False


class BuildHub(Hub[BuildSubscriber, list[Piece]]):
    """Hands a build's news to all streams of this process that watch it."""

    def __init__(self, build_id: uuid.UUID) -> None:
        super().__init__()
        self._build_id = build_id

    def make_poller(
        self, *, on_ready: Callable[[], None], on_news: Callable[[list[Piece], int], None]
    ) -> BuildPoller:
        """Return the poller of this build."""
        return BuildPoller(self._build_id, on_ready=on_ready, on_news=on_news)

    def deliver(self, batch: list[Piece]) -> None:
        """Put each piece to every stream; the last one ends them."""
        for piece in batch:
            for subscriber in self.subscribers:
                subscriber.put(piece.id, piece.event)
                if piece.is_last:
                    subscriber.has_last = True
                    subscriber.end()


_hubs = HubShelf(BuildHub)


def find_build_for(person: Person, pk: uuid.UUID) -> Build | None:
    """Return a build that the person may see."""
    return Build.objects.visible_to(person).filter(pk=pk).first()


@require_safe
async def build_output(request: HttpRequest, pk: uuid.UUID) -> HttpResponse | StreamingHttpResponse:
    """Stream a build's log from `Last-Event-ID` or `?last_id=` on; 404 for strangers."""
    person = await request.auser()
    if not isinstance(person, Person):
        return HttpResponse("Sign in first.", status=403, content_type="text/plain")
    if await sync_to_async(find_build_for)(person, pk) is None:
        return HttpResponse("There is no such build.", status=404, content_type="text/plain")
    if request.method == "HEAD":
        return HttpResponse(content_type="text/event-stream")
    return stream_response(stream_build(pk, max(read_cursor(request) or 0, 0)))


async def stream_build(pk: uuid.UUID, after: int) -> AsyncIterator[bytes]:
    """Yield the log after that place, then what comes, until the build has ended."""
    hub = _hubs.get(pk)
    subscriber = BuildSubscriber()
    try:
        await hub.join(subscriber)
        yield encode_start(None)
        async for piece in _catch_up(pk, after):
            yield piece.event
            after = max(after, piece.id)
            subscriber.ended = subscriber.ended or piece.is_last
        await release_thread()
        if subscriber.ended and not subscriber.has_last:
            return  # it had ended before this stream began, or the process is to stop
        async for part in _follow(hub, subscriber, after):
            yield part
    finally:
        hub.leave(subscriber)
        _hubs.drop_unused()


async def _catch_up(pk: uuid.UUID, after: int) -> AsyncIterator[Piece]:
    # The state before the log: what has ended has written all of it.
    state = await sync_to_async(read_state)(pk)
    if state is not None:
        yield Piece(0, encode_state(state))
    while pieces := await sync_to_async(read_pieces)(pk, after):
        for piece in pieces:
            yield piece
        after = pieces[-1].id
    if state is None or not state["live"]:
        yield Piece(0, END, is_last=True)


async def _follow(
    hub: Hub[BuildSubscriber, list[Piece]], subscriber: BuildSubscriber, after: int
) -> AsyncIterator[bytes]:
    def is_told(number: int) -> bool:
        """One worker writes a build's log, so its ids come in order."""
        return 0 < number <= after

    def lose(_cursor: int) -> bytes:
        """End a stream that was too slow: its page comes back and reads on where it stopped."""
        subscriber.has_lost = True
        subscriber.end()
        return b""

    async for part in follow_hub(
        hub, subscriber, is_told=is_told, on_loss=lose, cursor=after, numbered_pings=False
    ):
        yield part
    lost, rest = subscriber.take()
    if not lost and not subscriber.has_lost:
        yield b"".join(event for number, event in rest if not is_told(number))
