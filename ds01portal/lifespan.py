"""Hear early that this server process is to stop, so that long connections can end in order.

Gunicorn waits for open connections and then kills: a stream or a terminal that only learns of
its end by being cut off leaves things behind. So the signals that stop a process are listened
to as well; the server's own handling of them goes on. Not in charge of: what ends, and how.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)
Message = dict[str, Any]
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)

_callbacks: set[Callable[[], None]] = set()


def on_stop(callback: Callable[[], None]) -> Callable[[], None]:
    """Call `callback` once, in the event loop, when the process is to stop.

    Return a function that takes it back.
    """
    _callbacks.add(callback)
    return lambda: _callbacks.discard(callback)


def announce_stop() -> None:
    """Call what waits for the stop. Its mistakes are logged, the others are called all the same."""
    while _callbacks:
        try:
            _callbacks.pop()()
        except Exception:
            logger.exception("not ended in order")


async def lifespan(
    _scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Answer the server's lifespan protocol, and listen to the signals in between."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            with suppress(ValueError):  # not the main thread: the server has no signals either
                _listen(asyncio.get_running_loop())
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            announce_stop()
            await send({"type": "lifespan.shutdown.complete"})
            return


def _listen(loop: asyncio.AbstractEventLoop) -> None:
    for number in SIGNALS:
        _chain(number, loop)


def _chain(number: signal.Signals, loop: asyncio.AbstractEventLoop) -> None:
    """Go before the handler that is there. One the loop has set hears of it by the wakeup fd."""
    before = signal.getsignal(number)
    if not callable(before):
        return

    def handle(received: int, frame: FrameType | None) -> None:
        with suppress(RuntimeError):  # the loop is closed: nothing is left to end
            loop.call_soon_threadsafe(announce_stop)
        before(received, frame)

    signal.signal(number, handle)
    signal.siginterrupt(number, False)
