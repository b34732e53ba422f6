"""Live updates: one stream of server-sent events for each open page, as `live.js` expects them.

Events: `update` with {subject, state, …}, `resync` (look at everything again), `ping`. The id of
an event is the place to resume from. All streams of a process share one poller; while nobody
listens nothing is read. Not in charge of: who may hear what (`services.updates`).
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from asgiref.sync import SyncToAsync, sync_to_async
from django.db import connections
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.views.decorators.http import require_safe

from ds01portal.lifespan import on_stop
from ds01portal.models import Person
from workspaces.services.updates import Missed, Tick, UpdatePoller, missed_updates

PING_EVERY = 15.0  # seconds
MAX_WAITING = 200  # events for one slow reader; then it looks at everything again
# Seconds until a stream ends by itself and the page comes back: who may hear is asked anew.
LIFETIME = 600.0
RECONNECT = 1000  # milliseconds a browser waits before it comes back
OVERLAP = dt.timedelta(seconds=2)  # a page is rendered before it listens
OUT_OF_RANGE = -1  # a cursor that cannot be one


def encode_event(kind: str, data: str, cursor: int) -> bytes:
    """Return one server-sent event. `data` is one line."""
    return f"id: {cursor}\nevent: {kind}\ndata: {data}\n\n".encode()


def encode_tick(tick: Tick) -> bytes:
    """Return a tick as an `update` event."""
    data = json.dumps({**tick.data, "subject": tick.subject}, separators=(",", ":"))
    return encode_event("update", data, tick.cursor)


class Subscriber:
    """One stream's end of the hub. Bounded: who does not read loses what waits, and is told."""

    def __init__(self, *, person_id: int, hears_all: bool) -> None:
        self._person_id = person_id
        self._hears_all = hears_all
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._something = asyncio.Event()
        self._overflowed = False
        self.ended = False

    def hears(self, owner_id: int | None) -> bool:
        """Tell whether a tick of that owner is for this stream."""
        return self._hears_all or owner_id is None or owner_id == self._person_id

    def put(self, tick_id: int, event: bytes) -> None:
        """Queue an event; drop all that wait when there are too many."""
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.clear()
            self._overflowed = True
        if not self._overflowed:
            self._waiting.append((tick_id, event))
        self._something.set()

    def end(self) -> None:
        """Let the stream end."""
        self.ended = True
        self._something.set()

    async def wait(self, seconds: float) -> None:
        """Return when there is something, or after that long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(seconds, 0)):
                await self._something.wait()

    def take(self) -> tuple[bool, list[tuple[int, bytes]]]:
        """Return whether something was lost, and what waits, oldest first."""
        lost, taken = self._overflowed, list(self._waiting)
        self._overflowed = False
        self._waiting.clear()
        self._something.clear()
        return lost, taken


class Hub:
    """Hands the ticks of one poller to all streams of this process. Lives in the event loop."""

    def __init__(self) -> None:
        self.cursor = 0
        self.forget = on_stop(self.end)
        self._subscribers: set[Subscriber] = set()
        self._poller: UpdatePoller | None = None
        self._ready = asyncio.Event()

    async def join(self, subscriber: Subscriber) -> None:
        """Add a stream. Ticks committed after this returns all reach it."""
        self._subscribers.add(subscriber)
        if self._poller is None:
            self._start_poller(asyncio.get_running_loop())
        await self._ready.wait()

    def leave(self, subscriber: Subscriber) -> None:
        """Take a stream out; with the last one the poller ends."""
        self._subscribers.discard(subscriber)
        if not self._subscribers and self._poller is not None:
            self._poller.stop()
            self._poller = None

    def end(self) -> None:
        """End all streams: the process is to stop. Pages come back to the next one."""
        for subscriber in self._subscribers:
            subscriber.end()

    def _start_poller(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ready = ready = asyncio.Event()

        def call(act: Callable[..., object], *args: object) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(act, *args)

        def hand_over(ticks: list[Tick], cursor: int) -> None:
            call(self._deliver, poller, ticks, cursor)

        poller = UpdatePoller(on_ready=lambda: call(ready.set), on_ticks=hand_over)
        self._poller = poller
        poller.start()

    def _deliver(self, poller: UpdatePoller, ticks: list[Tick], cursor: int) -> None:
        if poller is not self._poller:
            return  # stopped meanwhile; a newer one tells the same
        self.cursor = cursor
        for tick in ticks:
            event = encode_tick(tick)
            for subscriber in self._subscribers:
                if subscriber.hears(tick.owner_id):
                    subscriber.put(tick.id, event)


_hubs: dict[asyncio.AbstractEventLoop, Hub] = {}


def get_hub() -> Hub:
    """Return the hub of the running event loop; a process has one of each."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        for closed in [one for one in _hubs if one.is_closed()]:
            _hubs.pop(closed).forget()
        _hubs[loop] = Hub()
    return _hubs[loop]


async def release_thread() -> None:
    """Give back the request's database connection and its thread, which would idle for hours.

    Django keeps one thread for the synchronous parts of a request until it ends. The next
    synchronous call of the request, if any, gets a new one.
    """
    await sync_to_async(connections.close_all)()
    context = SyncToAsync.thread_sensitive_context.get(None)
    executor = SyncToAsync.context_to_thread_executor.pop(context, None) if context else None
    if executor is not None:
        executor.shutdown(wait=False)


@require_safe
async def update_stream(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """Stream what concerns the person who asks, from `Last-Event-ID` or `?last_id=` on."""
    person = await request.auser()
    if not isinstance(person, Person):
        return HttpResponse("Sign in first.", status=403, content_type="text/plain")
    if request.method == "HEAD":
        return HttpResponse(content_type="text/event-stream")
    response = StreamingHttpResponse(
        stream_events(person, read_cursor(request)), content_type="text/event-stream"
    )
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"  # a proxy that gathers would hold events back
    return response


def read_cursor(request: HttpRequest) -> int | None:
    """Return where to resume from; the browser's own header is newer than the address."""
    text = request.headers.get("Last-Event-ID") or request.GET.get("last_id") or ""
    if not text:
        return None
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else OUT_OF_RANGE


async def stream_events(person: Person, after: int | None) -> AsyncIterator[bytes]:
    """Yield what was missed, then what comes, until the reader goes or the stream is old."""
    hub = get_hub()
    subscriber = Subscriber(person_id=person.pk, hears_all=person.is_staff)
    try:
        await hub.join(subscriber)
        missed = await sync_to_async(missed_updates)(person=person, after=after, overlap=OVERLAP)
        await release_thread()
        # Without data it is no event, but the browser knows where to resume from.
        yield f"retry: {RECONNECT}\nid: {missed.cursor}\n\n".encode()
        if not missed.complete:
            yield encode_event("resync", "{}", missed.cursor)
        for tick in missed.ticks:
            yield encode_tick(tick)
        async for event in follow(hub, subscriber, missed):
            yield event
    finally:
        hub.leave(subscriber)


async def follow(hub: Hub, subscriber: Subscriber, missed: Missed) -> AsyncIterator[bytes]:
    """Yield what the hub hands over, several at a time, and pings in silence."""
    told, cursor = {tick.id for tick in missed.ticks}, missed.cursor
    end = time.monotonic() + LIFETIME * random.uniform(0.9, 1.1)  # noqa: S311 - spreads load
    next_ping = time.monotonic() + PING_EVERY
    while not subscriber.ended and time.monotonic() < end:
        await subscriber.wait(next_ping - time.monotonic())
        # All that the hub has seen is in this take, so its cursor holds for this stream too.
        lost, taken = subscriber.take()
        cursor = max(cursor, hub.cursor)
        events = [event for tick_id, event in taken if tick_id not in told]
        if lost:
            events.append(encode_event("resync", "{}", cursor))
        if time.monotonic() >= next_ping:
            next_ping = time.monotonic() + PING_EVERY
            events.append(encode_event("ping", "{}", cursor))
        if events:
            yield b"".join(events)
