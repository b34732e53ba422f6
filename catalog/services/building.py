"""Carry out a build: wait for a turn, find the base, make the layers, tag; undo it on failure.

Every part may be repeated: a worker that was killed is followed by one that goes on after the
last layer that was stored. Success is what `inspect` shows of the tag. Not in charge of:
whether the build is allowed; that was decided when it was asked for.
"""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

from django.db import transaction
from django.utils import timezone

from catalog.models import Build, BuildPolicy, Image
from catalog.recipes.failures import explain_failure
from catalog.recipes.masking import Masker
from catalog.recipes.variables import looks_secret
from catalog.services.build_end import complete_build, undo_build
from catalog.services.build_layers import Layers, StepEnd
from catalog.services.build_output import OutputWriter
from catalog.services.builds import QUEUE, admitted_builds
from catalog.services.pulls import ensure_image
from catalog.services.recipe_bases import check_base_variables
from catalog.services.site import site_secrets
from ds01portal.engine import get_engine
from ds01portal.engine.base import ContainerEngine, ImageDetails, PullProgress
from ds01portal.exceptions import (
    BuildFailed,
    Busy,
    EngineError,
    EngineTimeout,
    EngineUnreachable,
    ImageRefused,
    MissingOnEngine,
    OutOfMemory,
    PortalError,
    RefusedError,
)
from ds01portal.limits import format_bytes
from ds01portal.services.operations import Cancelled, Work

__all__ = ["abandon_build", "carry_out_build"]

UNDO = "undo"
TURN_DELAY = dt.timedelta(seconds=1)  # between two questions whether it is its turn
KILLED = (137, 143)  # exit codes after SIGKILL and SIGTERM
KILLED_PAUSE = 2.0  # seconds
FAILURE_LINES = 20  # of the log that go with an error


def carry_out_build(work: Work, *, engine: ContainerEngine | None = None) -> None:
    """Make the version that the build of the operation asks for, or say why there is none."""
    build = Build.objects.select_related("recipe__owner", "actor").get(
        pk=work.operation.params["build"]
    )
    chosen = engine or get_engine()
    if work.operation.phase == UNDO:
        undo_build(work, build, chosen)
        return
    policy = BuildPolicy.current()
    try:
        if not _is_its_turn(work, build, policy):
            return
        _Run(work, build, chosen, policy).make()
    except (EngineUnreachable, EngineTimeout):
        raise  # nothing is decided: the operation is given back and goes on later
    except Cancelled:
        _give_up(work, build, chosen, _stop_error(work, policy))
    except PortalError as error:
        _give_up(work, build, chosen, {**error.as_dict(), "cause": error.cause})


def abandon_build(work: Work, error: EngineError) -> None:
    """Undo a build that fails again and again for no known reason."""
    build = Build.objects.select_related("recipe__owner").get(pk=work.operation.params["build"])
    _give_up(work, build, get_engine(), {**error.as_dict(), "cause": error.cause})


def _give_up(work: Work, build: Build, engine: ContainerEngine, error: dict[str, Any]) -> None:
    # The error is stored first: when the engine goes away meanwhile, the undo goes on later.
    work.begin_undo(error)
    undo_build(work, build, engine)


def _stop_error(work: Work, policy: BuildPolicy) -> dict[str, Any]:
    work.operation.refresh_from_db(fields=["cancel_requested"])
    if work.operation.cancel_requested:
        return {**RefusedError("The build was cancelled.").as_dict(), "code": "cancelled"}
    minutes = max(policy.timeout_seconds // 60, 1)
    error = BuildFailed(
        f"The build took longer than the {minutes} minutes that a build may take.",
        hint="Ask for less at once; an admin can allow more time.",
        seconds=policy.timeout_seconds,
    )
    error.code, error.family = "timeout", "timeout"
    return error.as_dict()


def _is_its_turn(work: Work, build: Build, policy: BuildPolicy) -> bool:
    """Begin, or give the operation back until others have ended."""
    if build.started_at is not None:
        return True
    running, waiting = admitted_builds(policy=policy)
    if str(work.operation.pk) not in running:
        before = waiting.index(str(work.operation.pk)) if str(work.operation.pk) in waiting else 0
        words = "It is the next one." if not before else f"{before} before it."
        work.enter_phase(QUEUE, f"Waiting for another build to end. {words}")
        work.postpone(Busy(work.operation.message), TURN_DELAY)
        return False
    work.enter_phase("base")
    now = timezone.now()
    work.set_deadline(now + dt.timedelta(seconds=policy.timeout_seconds))
    Build.objects.filter(pk=build.pk).update(state=Build.State.RUNNING, started_at=now)
    build.state, build.started_at = Build.State.RUNNING, now
    return True


class _Run:
    """One attempt to carry a build out. Steps that an earlier attempt ended stay."""

    def __init__(
        self, work: Work, build: Build, engine: ContainerEngine, policy: BuildPolicy
    ) -> None:
        self.work, self.build, self.engine, self.policy = work, build, engine, policy
        secret = [value for name, value in build.content.get("environment", {}).items()
                  if looks_secret(name)]  # fmt: skip
        self.writer = OutputWriter(
            build, masker=Masker([*site_secrets(), *secret]), limit=policy.log_bytes
        )

    def make(self) -> None:
        """Go through base, layers and tags; raise what stopped it."""
        try:
            base = self._find_base()
            layers = Layers(build=self.build, engine=self.engine, policy=self.policy, base=base)
            for number in range(1, len(self.build.steps) + 1):
                self._make_layer(layers, number)
            if self.work.operation.attempt > 1:
                layers.end_leftovers(len(self.build.steps))
            self._finish(layers)
        except (EngineUnreachable, EngineTimeout):
            self.writer.say("Docker does not answer. The build goes on when it does.")
            raise
        finally:
            self.writer.close()

    def _find_base(self) -> ImageDetails:
        reference = self.build.base_reference
        self.work.enter_phase("base", f"Looking for {reference}")
        try:
            details = self.engine.inspect_image(reference)
        except MissingOnEngine:
            details = self._pull_base(reference)
        check_base_variables(reference=reference, environment=details.environment)
        self.build.base_engine_id = details.id
        Build.objects.filter(pk=self.build.pk).update(base_engine_id=details.id)
        return details

    def _pull_base(self, reference: str) -> ImageDetails:
        cannot_be_pulled = Image.objects.exclude(kind=Image.Kind.CATALOG)
        if cannot_be_pulled.filter(reference=reference).exists():
            raise ImageRefused(
                f"The base {reference} is not on this machine any more.",
                hint="Choose another base and build again.",
                field="base",
                value=reference,
            )
        self.work.enter_phase("pull", f"Pulling {reference}")
        self.writer.say(f"Pulling {reference}")

        def report(progress: PullProgress) -> None:
            self.work.report(progress.percent, progress.message)

        try:
            return ensure_image(
                reference=reference,
                on_progress=report,
                is_cancelled=self.work.is_cancelled,
                engine=self.engine,
            )
        except PortalError as error:
            if error.fields.get("cancelled"):
                raise Cancelled from error
            raise

    def _make_layer(self, layers: Layers, number: int) -> None:
        step = self.build.steps[number - 1]
        total = len(self.build.steps)
        if step["state"] in ("done", "cached"):
            # Before a kill, or taken from an earlier build: it is there, or it is made again.
            try:
                layers.adopt(step["image"])
                return
            except MissingOnEngine:
                step["state"] = "waiting"
        self.writer.begin_step(number)
        title = f"Step {number} of {total}: {step['title']}"
        parent = layers.head
        if (found := layers.find(step["command"])) is not None:
            self.writer.say(f"{title} (taken from an earlier build)")
            # Stored with the next step that takes time, or with the end.
            step.update(state="cached", image=found.id, bytes=found.size - parent.size)
            return
        self.work.enter_phase("step", title)
        self.writer.say(title)
        self._store(step, state="running", started_at=timezone.now().isoformat())
        begun = timezone.now()
        end = self._run_step(layers, number, step["command"])
        seconds = round((timezone.now() - begun).total_seconds(), 1)
        if end.result.exit_code != 0 or end.result.stopped:
            self._store(step, state="failed", seconds=seconds)
            self._raise_failure(number, step["title"], end)
        size = max(layers.head.size - parent.size, 0)
        self._store(step, state="done", seconds=seconds, image=layers.head.id, bytes=size)

    def _run_step(self, layers: Layers, number: int, command: str) -> StepEnd:
        """Run a step; once more when something outside killed it, such as an engine's restart."""
        for _attempt in range(2):
            end = layers.run(
                number, command, writer=self.writer, should_stop=self.work.is_cancelled
            )
            if end.result.exit_code not in KILLED or end.result.oom_killed or end.result.stopped:
                break
            time.sleep(KILLED_PAUSE)
            self.engine.ping()  # an engine that is going away does not answer any more
            self.writer.say("The step was killed from outside and is tried once more.")
        return end

    def _store(self, step: dict[str, Any], **values: Any) -> None:
        step.update(values)
        with transaction.atomic():
            self.work.keep()  # raises when another worker has taken over
            Build.objects.filter(pk=self.build.pk).update(steps=self.build.steps)

    def _raise_failure(self, number: int, title: str, end: StepEnd) -> None:
        tail = list(self.writer.tail)
        where: dict[str, Any] = {"step": number, "title": title, "exit_code": end.result.exit_code,
                 "tail": tail[-FAILURE_LINES:]}  # fmt: skip
        if end.full:
            error = BuildFailed(
                f"“{title}” wrote more than the {format_bytes(self.policy.disk_bytes)} "
                "that a build may take.",
                hint="Ask for less, or ask an admin for more room.",
                **where,
            )
            error.code = "too-large"
            raise error
        if end.result.stopped:
            raise Cancelled
        if end.result.oom_killed:
            raise OutOfMemory(
                f"“{title}” needed more than the {format_bytes(self.policy.memory_bytes)} of "
                "memory that a build has.",
                hint="Ask for packages that come ready built (wheels), or ask an admin for more.",
                **where,
            )
        found = explain_failure(
            exit_code=end.result.exit_code, oom_killed=False, tail=tail, title=title
        )
        error = BuildFailed(found.message, hint=found.hint, **where)
        error.code, error.family = found.code, found.family
        raise error

    def _finish(self, layers: Layers) -> None:
        self.writer.begin_step(0)
        self.work.enter_phase("finish", "Naming the image")
        parent = layers.head
        plan = self.build.plan
        layers.finish(
            len(self.build.steps) + 1, environment=plan["environment"], labels=plan["labels"]
        )
        image = layers.head
        reference = self.build.recipe.reference(self.build.number)
        self.engine.tag_image(image.id, reference)
        seen = self.engine.inspect_image(reference)
        if seen.id != image.id:
            raise EngineError("The image is not what was built.", cause=f"{reference}: {seen.id}")
        self.engine.tag_image(image.id, self.build.recipe.reference("latest"))
        self.writer.say(f"Built {reference} ({format_bytes(seen.size)}).")
        sizes = [{"id": step["image"], "bytes": max(int(step["bytes"]), 0)}
                 for step in self.build.steps]  # fmt: skip
        sizes.append({"id": image.id, "bytes": max(image.size - parent.size, 0)})
        self.writer.close()
        complete_build(self.work, self.build, details=seen, layers=sizes, engine=self.engine)
