"""An interactive shell in a container, as bytes over the engine's socket.

Not in charge of: who may open one, which shell a container has, the browser's side.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
import time
from typing import Protocol

from ds01portal.exceptions import EngineError, EngineUnreachable

log = logging.getLogger(__name__)

START_SECONDS = 1.0  # how long the engine may refuse a size because the shell is still starting


class Shell(Protocol):
    """What a terminal needs of the command behind it."""

    id: str

    def resize(self, *, columns: int, rows: int) -> None: ...

    def exit_code(self) -> int | None: ...

    def end(self, *signals: signal.Signals) -> bool: ...


class DockerTerminal:
    """A `TerminalSession`. Reads and writes block; `close()` may come from another thread."""

    def __init__(self, shell: Shell, sock: socket.socket) -> None:
        self._shell = shell
        self._sock = sock
        self._lock = threading.Lock()
        self._closed = False

    def set_first_size(self, *, columns: int, rows: int) -> None:
        """Set the size as soon as the engine takes it. A shell that ended at once needs none."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                self._shell.resize(columns=columns, rows=rows)
                return
            except EngineUnreachable:
                raise
            except EngineError as error:
                if self._shell.exit_code() is not None:
                    return
                log.debug("terminal not ready for a size: %s", error.cause)
                time.sleep(0.02)

    def fileno(self) -> int:
        return self._sock.fileno()

    def read(self, size: int = 65536) -> bytes:
        """Return b"" at the end, also when the connection broke."""
        try:
            return self._sock.recv(size)
        except BlockingIOError:
            raise
        except OSError:
            return b""

    def write(self, data: bytes) -> None:
        """Raise EngineUnreachable when the connection is gone."""
        try:
            self._sock.sendall(data)
        except BlockingIOError:
            raise
        except OSError as error:
            raise EngineUnreachable("The terminal is closed.", cause=repr(error)) from error

    def resize(self, *, columns: int, rows: int) -> None:
        self._shell.resize(columns=columns, rows=rows)

    def exit_code(self) -> int | None:
        return self._shell.exit_code()

    def close(self) -> None:
        """End the shell, by SIGKILL if SIGHUP does not. Closing the socket alone leaves it."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        try:
            if not self._shell.end(signal.SIGHUP, signal.SIGKILL):
                log.warning("shell %s did not end when its terminal was closed", self._shell.id)
        except EngineError as error:
            log.warning("shell %s may still run: %s", self._shell.id, error.cause)
        finally:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
            self._sock.close()
