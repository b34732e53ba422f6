"""Steps of image builds on a Docker Engine: prepare or run, measure, commit, end.

Not in charge of: which steps there are, keeping their output, time limits (`should_stop`).
"""

from __future__ import annotations

import contextlib
import math
import selectors
import socket
import time
from collections.abc import Callable, Mapping

from ds01portal.exceptions import (
    EngineConflict,
    EngineError,
    EngineTimeout,
    EngineUnreachable,
    MissingOnEngine,
)

from .. import steps
from ..base import (
    ContainerEngine,
    ImageConfig,
    ImageDetails,
    StepResult,
    StepSpec,
)
from .client import Client
from .errors import NO_IMAGE, engine_errors, unreachable

POLL_SECONDS = 0.1  # how often `should_stop` is asked
END_SECONDS = 30  # from SIGKILL until the engine has put the container away
DRAIN_SECONDS = 5.0  # from then on until the last of the output must have come
COMMIT_SECONDS = 3600  # the engine packs the whole layer before it answers
MEASURE_SECONDS = 300  # it looks at every file the step has written
CHUNK = 65_536


class DockerBuilds(ContainerEngine):
    """The part of the engine that carries out the steps of a build."""

    _client: Client

    def prepare_step(self, spec: StepSpec) -> None:
        self._make_step(spec)

    def _make_step(self, spec: StepSpec) -> str:
        """Create without looking first; only a name that is taken is looked at."""
        try:
            return self._create_step(spec)
        except EngineConflict as taken:
            with contextlib.suppress(MissingOnEngine):
                found = self.inspect_container(spec.name)
                if not steps.is_leftover(found.labels, spec):
                    raise taken
                self.remove_container(found.id, force=True)
        return self._create_step(spec)

    def _create_step(self, spec: StepSpec) -> str:
        with engine_errors("create the build step", missing=NO_IMAGE):
            create = self._client.api.create_container_from_config
            made = create(steps.step_config(spec), name=spec.name)  # type: ignore[no-untyped-call]
        return str(made["Id"])

    def run_step(
        self,
        spec: StepSpec,
        *,
        environment: Mapping[str, str],
        on_output: Callable[[bytes], None],
        should_stop: Callable[[], bool],
    ) -> StepResult:
        lines = steps.environment_lines(environment)
        if should_stop():
            return StepResult(exit_code=None, oom_killed=False, stopped=True)
        container = self._make_step(spec)
        try:
            with (
                self._listen(container, "attach", "stream=1&stdin=1&stdout=1&stderr=1") as output,
                self._listen(container, "wait", "condition=next-exit") as end,
            ):
                self.start_container(container)
                _send(output, lines)
                stopped = _follow(output, end, on_output, should_stop)
                if stopped:
                    self._kill(container)
                    end.settimeout(END_SECONDS)
                    _require_news(end)
        except BaseException:
            with contextlib.suppress(EngineError):
                self._kill(container)
            raise
        ended = self.inspect_container(container)
        return StepResult(
            exit_code=ended.exit_code, oom_killed=ended.oom_killed and not stopped, stopped=stopped
        )

    def _listen(self, container: str, subject: str, query: str) -> socket.socket:
        """Return a line of its own, on which the engine speaks when there is something."""
        with engine_errors("follow the build step"):
            path = self._client.path("containers", container, subject)
            return self._client.hijack(f"{path}?{query}", None)

    def _kill(self, container: str) -> None:
        """End it at once; the engine answers when it has. Success when it has ended already."""
        stopping = engine_errors("stop the build step")
        with contextlib.suppress(EngineConflict, MissingOnEngine), stopping:
            self._client.api.kill(container, "SIGKILL")

    def written_bytes(self, name: str) -> int:
        with (
            engine_errors("measure the build step"),
            self._client.open(
                "GET",
                self._client.path("containers", name, "json"),
                params={"size": "1"},
                timeout=MEASURE_SECONDS,
            ) as response,
        ):
            return int(response.json().get("SizeRw") or 0)

    def commit_step(self, name: str, *, config: ImageConfig, comment: str) -> ImageDetails:
        body = steps.commit_config(config)
        with (
            engine_errors("save the build step"),
            self._client.open(
                "POST",
                self._client.path("commit"),
                params={"container": name, "pause": "0", "comment": comment},
                body=body,
                timeout=COMMIT_SECONDS,
            ) as response,
        ):
            made = str(response.json()["Id"])
        return self.inspect_image(made)

    def end_step(self, name: str) -> None:
        self.remove_container(name, force=True)


def _cut(cause: str) -> EngineUnreachable:
    return EngineUnreachable(
        "The connection to Docker was cut during a build step.",
        hint="The build can be tried again; finished steps are kept.",
        cause=cause,
    )


def _send(sock: socket.socket, lines: bytes) -> None:
    try:
        sock.sendall(lines)
    except OSError as error:
        raise unreachable(error) from error


def _follow(
    output: socket.socket,
    end: socket.socket,
    on_output: Callable[[bytes], None],
    should_stop: Callable[[], bool],
) -> bool:
    """Hand on output until the step has ended; return True as soon as it has to stop.

    A step may close its streams and go on, so the end of the output alone says nothing.
    """
    frames, asked, give_up = steps.Frames(), 0.0, math.inf
    with selectors.DefaultSelector() as ears:
        for line in (output, end):
            ears.register(line, selectors.EVENT_READ)
        while ears.get_map() and time.monotonic() < give_up:
            if time.monotonic() - asked >= POLL_SECONDS:
                if should_stop():
                    return True
                asked = time.monotonic()
            wait = asked + POLL_SECONDS - time.monotonic()
            ready = {key.fileobj for key, _ in ears.select(max(wait, 0.0))}
            if output in ready and not _hand_on(output, frames, on_output):
                ears.unregister(output)
            if end in ready:
                _require_news(end)
                ears.unregister(end)
                give_up = time.monotonic() + DRAIN_SECONDS
    return False


def _hand_on(
    output: socket.socket, frames: steps.Frames, on_output: Callable[[bytes], None]
) -> bool:
    """Return False when the output has ended."""
    try:
        data = output.recv(CHUNK)
    except OSError as error:
        raise _cut(repr(error)) from error
    if not data and not frames.is_whole:
        raise _cut("the output ended in the middle of a frame")
    if piece := frames.feed(data):
        on_output(piece)
    return bool(data)


def _require_news(end: socket.socket) -> None:
    """Raise EngineUnreachable when it was the line that ended, not the step."""
    try:
        news = end.recv(CHUNK)
    except TimeoutError as error:
        raise EngineTimeout("A build step did not end when killed.", cause=repr(error)) from error
    except OSError as error:
        raise _cut(repr(error)) from error
    if not news:
        raise _cut("the line on which the engine tells of the end")
