"""A browser reduced to what counts: one connection kept open, cookies, forms, the event stream.

Not in charge of: what is asked. Times are `time.monotonic()`, seconds.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode

PATIENCE = 60.0  # seconds for any answer


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back, when the request was sent, and how long it took to the last byte."""

    status: int
    location: str
    body: bytes
    sent: float
    seconds: float


class Browser:
    """One person's browser. Not for several threads."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cookies: dict[str, str] = {}
        self._connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)

    @property
    def headers(self) -> dict[str, str]:
        """What every request says."""
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return {"Cookie": cookies, "Accept": "text/html", "Accept-Language": "en"}

    def get(self, path: str, *, expect: int = 200) -> Answer:
        """Fetch a page; raise RuntimeError when it is not what was expected."""
        return self._ask("GET", path, None, expect)

    def post(self, path: str, fields: dict[str, str], *, expect: int = 302) -> Answer:
        """Send a form with its token."""
        token = {"csrfmiddlewaretoken": self.cookies.get("csrftoken", "")}
        return self._ask("POST", path, urlencode({**token, **fields}).encode(), expect)

    def _ask(self, method: str, path: str, body: bytes | None, expect: int) -> Answer:
        headers = self.headers
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        sent = time.monotonic()
        try:
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
        except (ConnectionError, HTTPException):
            # The server may close a connection that has idled; a second one is not refused.
            self._connection.close()
            sent = time.monotonic()
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
        content = response.read()
        seconds = time.monotonic() - sent
        for line in response.headers.get_all("Set-Cookie") or ():
            for name, morsel in SimpleCookie(line).items():
                self.cookies[name] = morsel.value
        if response.status != expect:
            text = content.decode("utf-8", "replace")
            raise RuntimeError(f"{method} {path}: {response.status}, not {expect}: {text[-600:]}")
        location = response.headers.get("Location", "")
        return Answer(
            status=response.status, location=location, body=content, sent=sent, seconds=seconds
        )

    def sign_in(self, username: str, password: str) -> Browser:
        """Sign in by the form."""
        self.get("/account/login/")
        self.post("/account/login/", {"login": username, "password": password})
        return self


class Stream:
    """An open page's stream of events, read in a thread; each event with the time it came."""

    def __init__(self, browser: Browser) -> None:
        self._connection = HTTPConnection("127.0.0.1", browser.port, timeout=PATIENCE)
        self._connection.request(
            "GET", "/stream", headers={**browser.headers, "Accept": "text/event-stream"}
        )
        self._response = self._connection.getresponse()
        if self._response.status != 200:
            raise RuntimeError(f"GET /stream: {self._response.status}")
        self._changed = threading.Condition()
        self._events: list[tuple[float, dict[str, Any]]] = []
        self._opened = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        if not self._opened.wait(PATIENCE):
            raise RuntimeError("the stream does not begin")

    def _read(self) -> None:
        kind = ""
        try:
            while line := self._response.readline():
                came = time.monotonic()
                self._opened.set()
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "event":
                    kind = value
                elif name == "data" and kind == "update":
                    with self._changed:
                        self._events.append((came, json.loads(value)))
                        self._changed.notify_all()
        except (OSError, ValueError, AttributeError, HTTPException):
            return  # closed

    def forget(self) -> None:
        """Drop what has come so far."""
        with self._changed:
            self._events.clear()

    def wait_for(self, matches: Callable[[dict[str, Any]], bool], *, patience: float) -> float:
        """Return when the first event that matches came; raise TimeoutError."""
        deadline, seen = time.monotonic() + patience, 0
        with self._changed:
            while True:
                for came, event in self._events[seen:]:
                    if matches(event):
                        return came
                seen = len(self._events)
                if not self._changed.wait(deadline - time.monotonic()):
                    raise TimeoutError(f"no such event in {patience} s")

    def wait_for_state(self, pk: str, state: str, *, patience: float = 60) -> float:
        """Return when the stream said that a container is in a state; raise for a failed one."""
        subject = f"container:{pk}"
        found: list[str] = []

        def matches(event: dict[str, Any]) -> bool:
            # Ticks with a phase tell the state of an operation, the others the container's.
            if event.get("subject") != subject or "phase" in event:
                return False
            if event.get("state") not in (state, "failed"):
                return False
            found.append(str(event["state"]))
            return True

        came = self.wait_for(matches, patience=patience)
        if found[-1] != state:
            raise RuntimeError(f"{subject} is {found[-1]}, not {state}")
        return came

    def phases(self, pk: str) -> dict[str, float]:
        """Return when the stream first told each phase of what is done to a container."""
        found: dict[str, float] = {}
        with self._changed:
            for came, event in self._events:
                if event.get("subject") == f"container:{pk}" and event.get("phase"):
                    found.setdefault(str(event["phase"]), came)
        return found

    def close(self) -> None:
        """End it."""
        sock = self._connection.sock
        if sock is not None:
            sock.close()
        self._connection.close()
