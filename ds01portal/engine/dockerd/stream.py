"""A long answer of the engine, read by a thread so that who waits for it can look up.

An engine may send nothing for hours (events) or minutes (a stuck registry). Not in charge
of: what the objects mean, reconnecting.
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import requests


class StreamEnded(Exception):
    """The engine closed the stream in order."""


class JsonStream:
    """JSON objects, one a line, of the answer that `open_response` returns."""

    def __init__(self, open_response: Callable[[], requests.Response]) -> None:
        self._open = open_response
        self._queue: queue.Queue[dict[str, Any] | BaseException] = queue.Queue()
        self._lock = threading.Lock()
        self._response: requests.Response | None = None
        self._closed = False
        threading.Thread(target=self._read, name="engine-stream", daemon=True).start()

    def poll(self, timeout: float) -> dict[str, Any] | None:
        """Return the next object, or None after `timeout` seconds without one.

        Raise StreamEnded after the last one, or what the reading thread failed with.
        """
        try:
            item = self._queue.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(item, BaseException):
            self._queue.put(item)  # the end stays the end
            raise item
        return item

    def close(self) -> None:
        """Hang up at once. Without an answer yet, the thread hangs up when one comes."""
        with self._lock:
            self._closed = True
            if self._response is not None:
                # Closing what another thread reads blocks; ending its reads does not.
                with contextlib.suppress(OSError, ValueError, RuntimeError):
                    self._response.raw.shutdown()

    def _read(self) -> None:
        try:
            with self._open() as response:
                with self._lock:
                    self._response = response
                    if self._closed:
                        return
                for line in _lines(response):
                    self._queue.put(json.loads(line))
            self._queue.put(StreamEnded())
        except Exception as error:  # noqa: BLE001 - handed to who polls
            self._queue.put(error)
        finally:
            with self._lock:
                self._response = None

    def __enter__(self) -> JsonStream:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def _lines(response: requests.Response) -> Iterator[bytes]:
    pending = b""
    for chunk in response.iter_content(chunk_size=None):
        *lines, pending = (pending + chunk).split(b"\n")
        yield from (line for line in lines if line.strip())
    if pending.strip():
        yield pending
