"""What happens to containers, as the engine tells it.

Not in charge of: reconnecting, or what an event means; a listener asks the engine itself.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ds01portal.exceptions import EngineUnreachable

from ..base import ContainerEngine, EngineEvent
from ..wire import from_timestamp
from .client import Client
from .errors import engine_errors
from .stream import JsonStream, StreamEnded

POLL_SECONDS = 0.25
# Commands inside a container are events too: many, and of no meaning for its state.
ACTIONS = (
    "create", "start", "restart", "stop", "die", "kill", "oom", "pause", "unpause", "rename",
    "update", "destroy",
)  # fmt: skip


class DockerEvents(ContainerEngine):
    """The part of the engine that tells what happens."""

    _client: Client

    def watch_events(
        self, *, since: dt.datetime | None, should_stop: Callable[[], bool]
    ) -> Iterator[EngineEvent]:
        params = {"filters": json.dumps({"type": ["container"], "event": list(ACTIONS)})}
        if since is not None:
            params["since"] = f"{since.timestamp():.6f}"
        with engine_errors("tell what happens"):
            path = self._client.path("events")
        with JsonStream(
            lambda: self._client.open("GET", path, params=params, timeout=None)
        ) as stream:
            while not should_stop():
                message = _next(stream)
                if message is not None:
                    yield _parse_event(message)


def _next(stream: JsonStream) -> dict[str, Any] | None:
    try:
        with engine_errors("tell what happens"):
            return stream.poll(POLL_SECONDS)
    except StreamEnded as ended:
        raise EngineUnreachable("Docker ended the list of events.") from ended


def _parse_event(message: Mapping[str, Any]) -> EngineEvent:
    actor = message.get("Actor") or {}
    attributes = {key: str(value) for key, value in (actor.get("Attributes") or {}).items()}
    nanoseconds = message.get("timeNano")
    return EngineEvent(
        action=str(message.get("Action") or message.get("status") or ""),
        container_id=str(actor.get("ID") or message.get("id") or ""),
        container_name=attributes.get("name", ""),
        time=from_timestamp(nanoseconds / 1e9 if nanoseconds else message.get("time")),
        attributes=attributes,
    )
