"""Trouble on request: the next calls fail, hang, or find nobody there.

Not in charge of: what a call does when nothing is wrong.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from ds01portal.exceptions import EngineError, EngineTimeout, EngineUnreachable

ANY = "*"  # in place of a method's name: whichever comes next


@dataclass(slots=True)
class _Fault:
    method: str
    times: int
    error: EngineError | None  # None: hang
    seconds: float | None = None


class Faults:
    """The plan of trouble for one fake engine. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._planned: list[_Fault] = []
        self.is_down = False
        self.calls: list[str] = []  # names of all methods asked for, in order

    def fail_next(self, method: str, error: EngineError, *, times: int = 1) -> None:
        """Raise `error` in the next `times` calls of `method` (or ANY), doing nothing."""
        with self._lock:
            self._planned.append(_Fault(method, times, error))

    def hang(self, method: str, *, seconds: float | None = None, times: int = 1) -> None:
        """Let the next calls wait for `release()`; after `seconds` they raise EngineTimeout."""
        with self._lock:
            self._released.clear()
            self._planned.append(_Fault(method, times, None, seconds))

    def release(self) -> None:
        """Let all hanging calls go on as if nothing had been."""
        self._released.set()

    def go_down(self) -> None:
        """From now on every call raises EngineUnreachable. Containers go on as they are."""
        self.is_down = True

    def come_up(self) -> None:
        """Answer again."""
        self.is_down = False

    def check(self, method: str) -> None:
        """Have the trouble planned for this call, if any."""
        with self._lock:
            self.calls.append(method)
            fault = self._take(method)
        if fault is not None and fault.error is not None:
            raise fault.error
        if fault is not None and not self._released.wait(fault.seconds):
            raise EngineTimeout("Docker did not answer in time.", cause=f"hang in {method}")
        self.require_up()

    def require_up(self) -> None:
        """Raise EngineUnreachable while the engine is down."""
        if self.is_down:
            raise EngineUnreachable(
                "Docker does not answer.",
                hint="Containers may be running all the same. Try again in a minute.",
                cause="the engine was told to be down",
            )

    def _take(self, method: str) -> _Fault | None:
        for fault in self._planned:
            if fault.method in (method, ANY):
                fault.times -= 1
                if fault.times <= 0:
                    self._planned.remove(fault)
                return fault
        return None
