"""Steps of image builds on the fake engine: they end as a script says.

Not in charge of: running anything; a step without a script says its command and succeeds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ds01portal.exceptions import EngineConflict, MissingOnEngine

from .. import steps, wire
from ..base import ImageConfig, ImageDetails, Observed, StepResult, StepSpec
from .containers import FakeContainers
from .images import describe
from .world import FakeContainer, FakeImage, new_id

POLL_SECONDS = 0.02
WRITTEN = 1_000  # bytes a step writes unless its script says otherwise
Output = Sequence[bytes] | Callable[[Mapping[str, str]], Sequence[bytes]]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepScript:
    """How steps end whose command has `match` in it; `delay` in seconds, `written` in bytes."""

    match: str
    output: Output
    exit_code: int
    delay: float
    out_of_memory: bool
    written: int


@dataclass(frozen=True, slots=True)
class RanStep:
    """A step that was started, and the variables it was given."""

    spec: StepSpec
    environment: Mapping[str, str]


class FakeBuilds(FakeContainers):
    """The part of the fake engine that carries out the steps of a build.

    `steps` has every step that was started, in order.
    """

    def script_step(
        self,
        *,
        match: str = "",
        output: Output = (),
        exit_code: int = 0,
        delay: float = 0.0,
        oom: bool = False,
        written: int = WRITTEN,
    ) -> None:
        """Say how steps end whose command has `match` in it; of several, the last said counts.

        The pieces of `output` (or what it makes of the step's variables) come with `delay`
        seconds before each and before the end. `oom` ends it with 137, whatever `exit_code`.
        """
        script = StepScript(
            match=match,
            output=output,
            exit_code=137 if oom else exit_code,
            delay=delay,
            out_of_memory=oom,
            written=written,
        )
        with self.changed:
            self.scripts.insert(0, script)

    def prepare_step(self, spec: StepSpec) -> None:
        with self.enter("prepare_step"):
            self._make_step(spec)

    def _make_step(self, spec: StepSpec) -> FakeContainer:
        found = [one for one in self.containers.values() if one.name == spec.name]
        for leftover in found:
            if not steps.is_leftover(leftover.raw["Config"].get("Labels") or {}, spec):
                raise EngineConflict(
                    "Docker could not create the build step: it is taken or in use.",
                    cause=f'The container name "/{spec.name}" is already in use',
                )
            self._drop(leftover)
        return self.add_container(spec.name, steps.step_config(spec))

    def run_step(
        self,
        spec: StepSpec,
        *,
        environment: Mapping[str, str],
        on_output: Callable[[bytes], None],
        should_stop: Callable[[], bool],
    ) -> StepResult:
        steps.environment_lines(environment)
        if should_stop():
            return StepResult(exit_code=None, oom_killed=False, stopped=True)
        with self.enter("run_step"):
            container = self._make_step(spec)
            self.check_start(container)
            self.run(container)
            given = {**steps.NO_DEVICES, **environment}
            self.steps.append(RanStep(spec, given))
            script = self._script(spec.command)
        try:
            stopped = self._play(container, script, given, on_output, should_stop)
        except BaseException:
            self._end(container, 137)
            raise
        self._end(container, 137 if stopped else script.exit_code, script)
        state = container.raw["State"]
        return StepResult(
            exit_code=state["ExitCode"],
            oom_killed=state["OOMKilled"] and not stopped,
            stopped=stopped,
        )

    def _script(self, command: str) -> StepScript:
        for script in self.scripts:
            if script.match in command:
                return script
        return StepScript(
            match="",
            output=(f"{command}\n".encode(),),
            exit_code=0,
            delay=0.0,
            out_of_memory=False,
            written=WRITTEN,
        )

    def _play(
        self,
        container: FakeContainer,
        script: StepScript,
        environment: Mapping[str, str],
        on_output: Callable[[bytes], None],
        should_stop: Callable[[], bool],
    ) -> bool:
        """Return True as soon as the step has to stop. Somebody else may end it as well."""
        pieces = script.output(environment) if callable(script.output) else script.output
        for piece in (*pieces, b""):
            for _ in _ticks(script.delay):
                self.faults.require_up()
                if should_stop():
                    return True
                if container.state is not Observed.RUNNING:
                    return False
            if piece:
                on_output(piece)
        return False

    def _end(self, container: FakeContainer, code: int, script: StepScript | None = None) -> None:
        if self.faults.is_down:
            return  # it goes on, and nobody knows
        with self.changed:
            if container.state is Observed.RUNNING:
                container.written += script.written if script else 0
                self.end(container, code, out_of_memory=bool(script and script.out_of_memory))

    def written_bytes(self, name: str) -> int:
        with self.enter("written_bytes"):
            return self.find(name).written

    def commit_step(self, name: str, *, config: ImageConfig, comment: str) -> ImageDetails:
        body = steps.commit_config(config)
        with self.enter("commit_step"):
            container = self.find(name)
            inside = container.raw["Config"]
            base = self.images[container.raw["Image"]]
            image = FakeImage(
                id=f"sha256:{new_id()}",
                tags=set(),
                layers=(*base.layers, container.written),
                files=dict(container.files),
                labels={**inside["Labels"], **config.labels},
                environment={
                    **wire.parse_environment(inside["Env"]),
                    **wire.parse_environment(body["Env"]),
                },
                created_at=self.clock(),
                parent=base.id,
                user=config.user or inside["User"],
                working_dir=config.working_dir or inside["WorkingDir"],
                command=config.command,
                history=(*base.history, (" ".join(inside["Cmd"]), comment)),
            )
            self.images[image.id] = image
            return describe(image)

    def end_step(self, name: str) -> None:
        with self.enter("end_step"):
            try:
                self._drop(self.find(name))
            except MissingOnEngine:
                return

    def _drop(self, container: FakeContainer) -> None:
        if container.state in (Observed.RUNNING, Observed.PAUSED):
            self.end(container, 137)
        del self.containers[container.raw["Id"]]
        self.emit("destroy", container)


def _ticks(seconds: float) -> Iterator[None]:
    """Come by at once and then several times a second until that many have passed."""
    deadline = time.monotonic() + seconds
    yield
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(left, POLL_SECONDS))
        yield
