"""Commands inside a running container, and how to end one from outside.

Not in charge of: what a terminal does with its bytes (`terminal`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from docker.errors import APIError

from ds01portal.exceptions import EngineError, EngineTimeout, MissingOnEngine

from ..base import ContainerEngine, TerminalSession
from .client import Client
from .errors import NO_EXEC, engine_errors
from .terminal import DockerTerminal

MAX_OUTPUT = 4_194_304  # bytes kept of a command's output; the rest is read and dropped
END_SECONDS = 1.0  # how long a command may take to end after a signal
NOT_FOUND = 127  # what a shell returns for a command that does not exist
TOKEN_NAME = "DS01_EXEC"
# Ctrl-P is docker's own default to detach; it would swallow the key that recalls a command.
DETACH_KEYS = "ctrl-^,ctrl-^,ctrl-@"
# The engine knows a command's process id on the host only. Inside, the process is found by
# its mark; what was started by an exec has no parent there. `kill` is the shell's own, as
# small images have no such program. SIGKILL goes to the whole session, since children of a
# shell that ignored the hangup do so as well; what left the session (tmux) is not touched.
KILL_SCRIPT = """
token=$1 signal=$2 leader=
for d in /proc/[0-9]*; do
  grep -qs "$token" "$d/environ" && read -r s < "$d/stat" || continue
  set -- ${s##*) }
  [ "$2" = 0 ] && leader=${d#/proc/}
done
[ -n "$leader" ] || exit 0
if [ "$signal" = KILL ]; then
  for d in /proc/[0-9]*; do
    read -r s < "$d/stat" || continue
    set -- ${s##*) }
    [ "$4" = "$leader" ] && [ "$leader" != "${d#/proc/}" ] && kill -KILL "${d#/proc/}"
  done
fi 2>/dev/null
kill -"$signal" "$leader"
"""


class Exec:
    """One command inside a container, not started yet."""

    def __init__(
        self,
        client: Client,
        container: str,
        command: tuple[str, ...],
        *,
        user: str,
        tty: bool = False,
        working_dir: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._client = client
        self._container = container
        self._user = user
        self._token = f"{TOKEN_NAME}={uuid.uuid4().hex}"
        with engine_errors("run a command in the container"):
            made = client.api.exec_create(
                container,
                list(command),
                stdin=tty,
                tty=tty,
                user=user,
                workdir=working_dir,
                environment=[*(f"{k}={v}" for k, v in (environment or {}).items()), self._token],
                detach_keys=DETACH_KEYS if tty else None,
            )
        self.id = str(made["Id"])
        self._tty = tty

    def start(self, *, columns: int = 0, rows: int = 0) -> socket.socket:
        """Start it; return the socket of its streams, raw with a tty and framed without."""
        body: dict[str, object] = {"Detach": False, "Tty": self._tty}
        if columns and rows:
            body["ConsoleSize"] = [rows, columns]  # since API 1.42; ignored before
        return self._client.hijack(self._client.path("exec", self.id, "start"), body)

    def resize(self, *, columns: int, rows: int) -> None:
        with engine_errors("resize the terminal", missing=NO_EXEC):
            self._client.api.exec_resize(self.id, height=rows, width=columns)

    def exit_code(self) -> int | None:
        """Return None while it runs. A container that is gone took its commands with it."""
        try:
            with engine_errors("look at a command", missing=NO_EXEC):
                state = self._client.api.exec_inspect(self.id)
        except MissingOnEngine:
            return 128 + signal.SIGKILL
        if state.get("Running"):
            return None
        code = state.get("ExitCode")
        return None if code is None else int(code)

    def await_end(self, seconds: float) -> int | None:
        """Return the exit code, or None when it still runs after that long."""
        deadline = time.monotonic() + seconds
        while (code := self.exit_code()) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        return code

    def end(self, *signals: signal.Signals) -> bool:
        """Send each signal in turn until it has ended; return whether it has."""
        for number in signals:
            if self.exit_code() is not None:
                return True
            self._send(number)
            if self.await_end(END_SECONDS) is not None:
                return True
        return False

    def _send(self, number: signal.Signals) -> None:
        if self._client.is_local:
            with contextlib.suppress(OSError):
                if self._send_from_host(number):
                    return
        # Also where the portal may not signal the host's processes, or does not see them.
        name = number.name.removeprefix("SIG")
        command = ("sh", "-c", KILL_SCRIPT, "sh", self._token, name)
        killer = Exec(self._client, self._container, command, user=self._user)
        with contextlib.suppress(OSError, APIError), killer.start() as sock:
            read_frames(sock, time.monotonic() + END_SECONDS)

    def _send_from_host(self, number: signal.Signals) -> bool:
        """Return False unless the process is surely this container's (ids are used again)."""
        with engine_errors("look at a command", missing=NO_EXEC):
            state = self._client.api.exec_inspect(self.id)
        pid, container_id = int(state.get("Pid") or 0), str(state.get("ContainerID") or "")
        if pid <= 1 or not container_id:
            return False
        handle = os.pidfd_open(pid)
        try:
            if container_id not in Path(f"/proc/{pid}/cgroup").read_text():
                return False
            if number is signal.SIGKILL:
                for member in _session(pid):
                    os.kill(member, number)
            signal.pidfd_send_signal(handle, number)
            return True
        finally:
            os.close(handle)


def _session(leader: int) -> list[int]:
    """Return the other processes of the host that belong to the leader's session."""
    members = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name in brackets may hold anything; after it: state, parent, group, session.
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == leader and int(stat.parent.name) != leader:
                members.append(int(stat.parent.name))
    return members


def read_frames(sock: socket.socket, deadline: float) -> bytes:
    """Return both streams' output until the end. Raise TimeoutError at `deadline`."""
    output = b""
    while head := _read(sock, 8, deadline):
        size = struct.unpack(">xxxxL", head)[0]
        while size:
            part = _read(sock, min(size, 65_536), deadline)
            if not part:
                return output
            size -= len(part)
            if len(output) < MAX_OUTPUT:
                output += part
    return output


def _is_not_found(code: int, output: bytes) -> bool:
    """Engines answer 126 or 127; here it is always what a shell would say."""
    return code == 126 and b"exec failed" in output and b"not found" in output


def _read(sock: socket.socket, size: int, deadline: float) -> bytes:
    data = b""
    while len(data) < size:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the command takes too long")
        sock.settimeout(left)
        more = sock.recv(size - len(data))
        if not more:
            return b""
        data += more
    return data


class DockerExecs(ContainerEngine):
    """The part of the engine that runs commands inside containers."""

    _client: Client

    def run_command(
        self, id_or_name: str, command: tuple[str, ...], *, user: str = "", timeout: float = 30
    ) -> tuple[int, bytes]:
        deadline = time.monotonic() + timeout
        run = Exec(self._client, id_or_name, command, user=user)
        try:
            with engine_errors("run a command in the container", missing=NO_EXEC), run.start() as s:
                output = read_frames(s, deadline)
        except EngineTimeout:
            run.end(signal.SIGKILL)
            raise
        except EngineError as error:
            if "executable file not found" in error.cause or "no such file" in error.cause:
                return NOT_FOUND, error.cause.encode()
            raise
        code = run.await_end(END_SECONDS)
        if code is None or _is_not_found(code, output):
            code = NOT_FOUND
        return code, output

    def open_terminal(
        self,
        id_or_name: str,
        command: tuple[str, ...],
        *,
        user: str,
        working_dir: str,
        environment: Mapping[str, str],
        columns: int,
        rows: int,
    ) -> TerminalSession:
        run = Exec(
            self._client,
            id_or_name,
            command,
            user=user,
            tty=True,
            working_dir=working_dir,
            environment=environment,
        )
        with engine_errors("open the terminal", missing=NO_EXEC):
            sock = run.start(columns=columns, rows=rows)
        session = DockerTerminal(run, sock)
        session.set_first_size(columns=columns, rows=rows)
        return session
