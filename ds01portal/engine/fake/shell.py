"""A shell that knows a handful of commands, and a terminal on it.

Enough to see bytes come and go: `echo`, `cat`, `stty size`, `id -u`, `env`, `true`, `false`,
`sleep`, `exit`. Not in charge of: being a shell.
"""

from __future__ import annotations

import contextlib
import shlex
import socket
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ds01portal.exceptions import EngineUnreachable

if TYPE_CHECKING:
    from .world import FakeContainer

NOT_FOUND = 127


class SleepsFor(Exception):
    """A command takes that many seconds; the fake does not wait for them."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class FakeShell:
    """Runs commands against a container's files. Raise SleepsFor for `sleep`."""

    def __init__(self, container: FakeContainer, user: str, environment: Mapping[str, str]) -> None:
        self._container = container
        self._user = user or container.raw["Config"].get("User") or "0"
        self._environment = environment
        self.columns = self.rows = 0
        self.exited: int | None = None

    def run(self, command: tuple[str, ...]) -> tuple[int, bytes]:
        """Return exit code and output."""
        if len(command) > 2 and command[0] in ("sh", "bash") and command[1] in ("-c", "-lc"):
            return self.run_line(command[2])
        return self._run_one(command[0], list(command[1:])) if command else (0, b"")

    def run_line(self, line: str) -> tuple[int, bytes]:
        """Run what `;` separates, until one is `exit`."""
        code, output = 0, b""
        for part in line.split(";"):
            words = shlex.split(part)
            if words:
                code, more = self._run_one(words[0], words[1:])
                output += more
            if self.exited is not None:
                return self.exited, output
        return code, output

    def _run_one(self, name: str, arguments: list[str]) -> tuple[int, bytes]:
        match name:
            case "echo":
                return 0, (" ".join(arguments) + "\n").encode()
            case "true" | "false":
                return int(name == "false"), b""
            case "cat":
                return self._cat(arguments)
            case "stty":
                return 0, f"{self.rows} {self.columns}\n".encode()
            case "id":
                return 0, (self._user.partition(":")[0] + "\n").encode()
            case "env":
                return 0, "".join(f"{k}={v}\n" for k, v in self._environment.items()).encode()
            case "sleep":
                raise SleepsFor(float(arguments[0]))
            case "exit":
                self.exited = int(arguments[0]) if arguments else 0
                return self.exited, b""
        return NOT_FOUND, f"{name}: not found\n".encode()

    def _cat(self, paths: list[str]) -> tuple[int, bytes]:
        found = [self._container.files.get(path) for path in paths]
        missing = [path for path, content in zip(paths, found, strict=True) if content is None]
        if missing:
            return 1, f"cat: {missing[0]}: No such file or directory\n".encode()
        return 0, b"".join(content for content in found if content)


class FakeTerminal:
    """A `TerminalSession` on a socket pair, so that an event loop can wait for it."""

    def __init__(self, container: FakeContainer, shell: FakeShell) -> None:
        self._container = container
        self._shell = shell
        self._ours, self._theirs = socket.socketpair()
        self._typed = b""
        self._lock = threading.RLock()
        self._exit_code: int | None = None
        container.terminals.append(self)
        self._theirs.sendall(b"$ ")

    def fileno(self) -> int:
        return self._ours.fileno()

    def read(self, size: int = 65536) -> bytes:
        try:
            return self._ours.recv(size)
        except BlockingIOError:
            raise
        except OSError:
            return b""

    def write(self, data: bytes) -> None:
        """Take what is typed; echo it; run each finished line."""
        with self._lock:
            if self._exit_code is not None:
                raise EngineUnreachable("The terminal is closed.")
            self._answer(data.replace(b"\n", b"\r\n"))
            self._typed += data.replace(b"\r", b"\n")
            while b"\n" in self._typed and self._exit_code is None:
                line, _, self._typed = self._typed.partition(b"\n")
                self._run(line.decode(errors="replace"))

    def _run(self, line: str) -> None:
        try:
            _, output = self._shell.run_line(line)
        except SleepsFor:
            return  # until it is hung up
        self._answer(output.replace(b"\n", b"\r\n"))
        if self._shell.exited is not None:
            self.hang_up(self._shell.exited)
        else:
            self._answer(b"$ ")

    def _answer(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self._theirs.sendall(data)

    def resize(self, *, columns: int, rows: int) -> None:
        self._shell.columns, self._shell.rows = columns, rows

    def exit_code(self) -> int | None:
        return self._exit_code

    def hang_up(self, code: int) -> None:
        """End the shell; what it wrote can still be read."""
        with self._lock:
            if self._exit_code is None:
                self._exit_code = code
                self._theirs.close()
                self._container.terminals.remove(self)

    def close(self) -> None:
        self.hang_up(129)
        with contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_RDWR)
        self._ours.close()
