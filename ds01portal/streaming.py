"""Server-sent events: one poller of the database feeds all streams of a process.

A `Hub` owns the poller, a thread with one database connection that runs only while somebody
listens; each stream is a `Subscriber` of it. Not in charge of: what is polled, who may hear it,
what the events say.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from asgiref.sync import SyncToAsync, sync_to_async
from django.db import connections
from django.http import HttpRequest, StreamingHttpResponse

from ds01portal.lifespan import on_stop

PING_EVERY = 15.0  # seconds
MAX_WAITING = 200  # events for one slow reader; what comes after that is lost to it
# Seconds until a stream ends by itself and the page comes back: who may hear is asked anew.
LIFETIME = 600.0
RECONNECT = 1000  # milliseconds a browser waits before it comes back
OUT_OF_RANGE = -1  # a cursor that cannot be one


def encode_event(kind: str, data: str, cursor: int | None) -> bytes:
    """Return one server-sent event. `data` is one line; without a cursor the place stays."""
    place = "" if cursor is None else f"id: {cursor}\n"
    return f"{place}event: {kind}\ndata: {data}\n\n".encode()


def encode_start(cursor: int | None) -> bytes:
    """Return what opens a stream: without data it is no event, but tells where to resume."""
    place = "" if cursor is None else f"id: {cursor}\n"
    return f"retry: {RECONNECT}\n{place}\n".encode()


def read_cursor(request: HttpRequest) -> int | None:
    """Return where to resume from; the browser's own header is newer than the address."""
    text = request.headers.get("Last-Event-ID") or request.GET.get("last_id") or ""
    if not text:
        return None
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else OUT_OF_RANGE


def stream_response(events: AsyncIterator[bytes]) -> StreamingHttpResponse:
    """Return the answer that carries the events."""
    response = StreamingHttpResponse(events, content_type="text/event-stream")
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"  # a proxy that gathers would hold events back
    return response


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


class Subscriber:
    """One stream's end of the hub. Bounded: who does not read loses what waits, and is told."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._something = asyncio.Event()
        self._overflowed = False
        self.ended = False

    def put(self, event_id: int, event: bytes) -> None:
        """Queue an event; drop all that wait when there are too many."""
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.clear()
            self._overflowed = True
        if not self._overflowed:
            self._waiting.append((event_id, event))
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


class Poller(Protocol):
    """A thread that looks for news until it is stopped."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End soon, and give the database connection back."""


S = TypeVar("S", bound=Subscriber)
Batch = TypeVar("Batch")


class Hub(Generic[S, Batch]):
    """Hands the news of one poller to all its streams. Lives in the event loop."""

    def __init__(self) -> None:
        self.cursor = 0
        self.forget = on_stop(self.end)
        self.subscribers: set[S] = set()
        self._poller: Poller | None = None
        self._ready = asyncio.Event()

    def make_poller(
        self, *, on_ready: Callable[[], None], on_news: Callable[[Batch, int], None]
    ) -> Poller:
        """Return a poller. It calls both from its thread; the number is its cursor."""
        raise NotImplementedError

    def deliver(self, batch: Batch) -> None:
        """Put what is news to each stream that may hear it."""
        raise NotImplementedError

    async def join(self, subscriber: S) -> None:
        """Add a stream. News committed after this returns all reaches it."""
        self.subscribers.add(subscriber)
        if self._poller is None:
            self._start_poller(asyncio.get_running_loop())
        await self._ready.wait()

    def leave(self, subscriber: S) -> None:
        """Take a stream out; with the last one the poller ends."""
        self.subscribers.discard(subscriber)
        if not self.subscribers and self._poller is not None:
            self._poller.stop()
            self._poller = None

    def end(self) -> None:
        """End all streams: the process is to stop. Pages come back to the next one."""
        for subscriber in self.subscribers:
            subscriber.end()

    def _start_poller(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ready = ready = asyncio.Event()

        def call(act: Callable[..., object], *args: object) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(act, *args)

        def hand_over(batch: Batch, cursor: int) -> None:
            call(self._take_over, poller, batch, cursor)

        poller = self.make_poller(on_ready=lambda: call(ready.set), on_news=hand_over)
        self._poller = poller
        poller.start()

    def _take_over(self, poller: Poller, batch: Batch, cursor: int) -> None:
        if poller is not self._poller:
            return  # stopped meanwhile; a newer one tells the same
        self.cursor = cursor
        self.deliver(batch)


class HubShelf(Generic[S, Batch]):
    """The hubs of this process by key, one for each event loop."""

    def __init__(self, make: Callable[..., Hub[S, Batch]]) -> None:
        self._make = make
        self._hubs: dict[tuple[asyncio.AbstractEventLoop, object], Hub[S, Batch]] = {}

    def get(self, *key: object) -> Hub[S, Batch]:
        """Return the hub of that key in the running loop; make it when there is none."""
        loop = asyncio.get_running_loop()
        place = (loop, key)
        if place not in self._hubs:
            self._forget(one for one in self._hubs if one[0].is_closed())
            self._hubs[place] = self._make(*key)
        return self._hubs[place]

    def drop_unused(self) -> None:
        """Forget the hubs that nobody listens to."""
        self._forget(place for place, hub in self._hubs.items() if not hub.subscribers)

    def _forget(self, places: Iterable[tuple[asyncio.AbstractEventLoop, object]]) -> None:
        for place in list(places):
            self._hubs.pop(place).forget()


async def follow_hub(
    hub: Hub[S, Batch],
    subscriber: S,
    *,
    is_told: Callable[[int], bool],
    on_loss: Callable[[int], bytes],
    cursor: int,
    numbered_pings: bool = True,
    ping_every: float | None = None,
) -> AsyncIterator[bytes]:
    """Yield what the hub hands over, several at a time, and pings in silence.

    `is_told` says of an event's id that the stream had it before; `on_loss` gives the event for
    a reader that was too slow.
    """
    pause = PING_EVERY if ping_every is None else ping_every
    end = time.monotonic() + LIFETIME * random.uniform(0.9, 1.1)  # noqa: S311 - spreads load
    next_ping = time.monotonic() + pause
    while not subscriber.ended and time.monotonic() < end:
        await subscriber.wait(next_ping - time.monotonic())
        # All that the hub has seen is in this take, so its cursor holds for this stream too.
        lost, taken = subscriber.take()
        cursor = max(cursor, hub.cursor)
        events = [event for event_id, event in taken if not is_told(event_id)]
        if lost:
            events.append(on_loss(cursor))
        if time.monotonic() >= next_ping:
            next_ping = time.monotonic() + pause
            events.append(encode_event("ping", "{}", cursor if numbered_pings else None))
        if events:
            yield b"".join(events)
