"""What is inside containers of the fake engine: files, logs, figures, commands, terminals."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping

from ds01portal.exceptions import EngineTimeout

from .. import wire
from ..base import Observed, TarEntry, TerminalSession, UsageSample
from .shell import FakeShell, FakeTerminal, SleepsFor
from .world import FakeWorld

CommandHook = Callable[[str, tuple[str, ...]], tuple[int, bytes] | None]


class FakeInsides(FakeWorld):
    """The part of the fake engine that looks into containers.

    `on_command` is asked first about each command: it gets the container's name and answers
    with exit code and output, or None to leave it to the built-in shell.
    """

    on_command: CommandHook | None = None

    def put_files(self, id_or_name: str, entries: tuple[TarEntry, ...]) -> None:
        with self.enter("put_files"):
            container = self.find(id_or_name)
            container.files |= {e.path: e.content for e in entries if e.content is not None}

    def read_logs(
        self, id_or_name: str, *, tail: int = 500, since: dt.datetime | None = None
    ) -> bytes:
        with self.enter("read_logs"):
            return b"".join(self.find(id_or_name).log.splitlines(keepends=True)[-tail:])

    def read_usage(self, id_or_name: str) -> UsageSample:
        with self.enter("read_usage"):
            container = self.find(id_or_name)
            self.measure(container)
            runs = container.state in (Observed.RUNNING, Observed.PAUSED)
            limit = int(container.raw["HostConfig"].get("Memory") or 0)
            return UsageSample(
                read_at=self.clock(),
                cpu_nanoseconds=container.cpu_nanoseconds if runs else None,
                memory_bytes=container.memory_bytes if runs else None,
                memory_limit_bytes=limit if runs else None,
                network_received_bytes=container.network_bytes if runs else None,
                network_sent_bytes=container.network_bytes if runs else None,
                pids=1 + len(container.terminals) if runs else None,
            )

    def run_command(
        self, id_or_name: str, command: tuple[str, ...], *, user: str = "", timeout: float = 30
    ) -> tuple[int, bytes]:
        with self.enter("run_command"):
            container = self.running(id_or_name)
            answer = self.on_command and self.on_command(container.name, command)
            if answer is not None:
                return answer
            environment = wire.parse_environment(container.raw["Config"]["Env"])
            try:
                return FakeShell(container, user, environment).run(command)
            except SleepsFor as nap:
                if nap.seconds > timeout:
                    raise EngineTimeout("The command takes too long.") from nap
                return 0, b""

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
        with self.enter("open_terminal"):
            container = self.running(id_or_name)
            inside = wire.parse_environment(container.raw["Config"]["Env"])
            terminal = FakeTerminal(
                container, FakeShell(container, user, {**inside, **environment})
            )
            terminal.resize(columns=columns, rows=rows)
            return terminal
