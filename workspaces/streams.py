"""Live updates: one stream of server-sent events for each open page, as `live.js` expects them.

Events: `update` with {subject, state, …}, `resync` (look at everything again), `ping`. The id of
an event is the place to resume from. All streams of a process share one poller; while nobody
listens nothing is read. Not in charge of: who may hear what (`services.updates`), the hub
(`ds01portal.streaming`).
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import AsyncIterator, Callable

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.views.decorators.http import require_safe

from ds01portal import streaming
from ds01portal.models import Person
from ds01portal.streaming import (
    MAX_WAITING,
    PING_EVERY,
    HubShelf,
    encode_event,
    encode_start,
    follow_hub,
    read_cursor,
    release_thread,
    stream_response,
)
from workspaces.services.updates import Missed, Tick, UpdatePoller, missed_updates

__all__ = ["MAX_WAITING", "Hub", "Subscriber", "encode_tick", "follow", "update_stream"]

OVERLAP = dt.timedelta(seconds=2)  # a page is rendered before it listens


def encode_tick(tick: Tick) -> bytes:
    """Return a tick as an `update` event."""
    data = json.dumps({**tick.data, "subject": tick.subject}, separators=(",", ":"))
    return encode_event("update", data, tick.cursor)


class Subscriber(streaming.Subscriber):
    """One page's stream, which hears what concerns its person."""

    def __init__(self, *, person_id: int, hears_all: bool) -> None:
        super().__init__()
        self._person_id = person_id
        self._hears_all = hears_all

    def hears(self, owner_id: int | None) -> bool:
        """Tell whether a tick of that owner is for this stream."""
        return self._hears_all or owner_id is None or owner_id == self._person_id


class Hub(streaming.Hub[Subscriber, list[Tick]]):
    """Hands the ticks of one poller to all streams of this process."""

    def make_poller(
        self, *, on_ready: Callable[[], None], on_news: Callable[[list[Tick], int], None]
    ) -> UpdatePoller:
        """Return the poller of ticks."""
        return UpdatePoller(on_ready=on_ready, on_ticks=on_news)

    def deliver(self, batch: list[Tick]) -> None:
        """Put each tick to those who may hear it."""
        for tick in batch:
            event = encode_tick(tick)
            for subscriber in self.subscribers:
                if subscriber.hears(tick.owner_id):
                    subscriber.put(tick.id, event)


_hubs = HubShelf(Hub)


@require_safe
async def update_stream(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """Stream what concerns the person who asks, from `Last-Event-ID` or `?last_id=` on."""
    person = await request.auser()
    if not isinstance(person, Person):
        return HttpResponse("Sign in first.", status=403, content_type="text/plain")
    if request.method == "HEAD":
        return HttpResponse(content_type="text/event-stream")
    return stream_response(stream_events(person, read_cursor(request)))


async def stream_events(person: Person, after: int | None) -> AsyncIterator[bytes]:
    """Yield what was missed, then what comes, until the reader goes or the stream is old."""
    hub = _hubs.get()
    subscriber = Subscriber(person_id=person.pk, hears_all=person.is_staff)
    try:
        await hub.join(subscriber)
        missed = await sync_to_async(missed_updates)(person=person, after=after, overlap=OVERLAP)
        await release_thread()
        yield encode_start(missed.cursor)
        if not missed.complete:
            yield encode_resync(missed.cursor)
        for tick in missed.ticks:
            yield encode_tick(tick)
        async for event in follow(hub, subscriber, missed):
            yield event
    finally:
        hub.leave(subscriber)


def encode_resync(cursor: int) -> bytes:
    """Return the event that lets a page look at everything again."""
    return encode_event("resync", "{}", cursor)


async def follow(
    hub: streaming.Hub[Subscriber, list[Tick]], subscriber: Subscriber, missed: Missed
) -> AsyncIterator[bytes]:
    """Yield what the hub hands over, without what was replayed already."""
    told = {tick.id for tick in missed.ticks}
    events = follow_hub(
        hub,
        subscriber,
        is_told=told.__contains__,
        on_loss=encode_resync,
        cursor=missed.cursor,
        ping_every=PING_EVERY,
    )
    async for event in events:
        yield event
