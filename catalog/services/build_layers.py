"""Make the layers of an image: one short-lived container each, run and committed.

A layer that an earlier build made from the same parent with the same command is taken again.
Site variables reach a step's process only; neither image nor history keeps them. Not in charge
of: the build's row and its end (`building`).
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from catalog.models import Build, BuildPolicy
from catalog.services.build_output import OutputWriter
from catalog.services.site import site_environment
from ds01portal.engine.base import ContainerEngine, ImageConfig, ImageDetails, StepResult, StepSpec
from ds01portal.exceptions import EngineError
from ds01portal.services.subnets import BUILDS_LABEL, free_subnets

__all__ = [
    "BUILDER_LABEL",
    "LAYER_LABEL",
    "STEP_PREFIX",
    "Layers",
    "StepEnd",
    "ensure_build_network",
    "layer_key",
    "step_name",
]

LAYER_LABEL = "aime.mlc.DS01_LAYER"
BUILD_LABEL = "aime.mlc.DS01_BUILD"  # on images: the build that made the layer
BUILDER_LABEL = "aime.mlc.DS01_BUILDER"
STEP_PREFIX = "ds01-build."  # of the names of steps' containers
NETWORK = "ds01-builds"
DISK_LOOK = 3.0  # seconds between two looks at what a step has written
SHELL = ("/bin/bash",)


@dataclass(frozen=True, kw_only=True, slots=True)
class StepEnd:
    """How a step ended. `full`: it was ended for writing more than a build may."""

    result: StepResult
    full: bool = False


def step_name(build: Build, number: int) -> str:
    """Return the name of a step's container; nothing else on the engine is called so."""
    return f"{STEP_PREFIX}{build.pk}.{number}"


def layer_key(parent: str, command: str) -> str:
    """Return what makes a layer the same layer in two builds."""
    return hashlib.sha256(f"{parent}\n{command}".encode()).hexdigest()


def ensure_build_network(*, engine: ContainerEngine, policy: BuildPolicy) -> str:
    """Return the network of builds: one without traffic between them, or the host's if allowed."""
    if policy.host_network:
        return "host"
    engine.ensure_network(NETWORK, subnets=free_subnets(engine), labels={BUILDS_LABEL: "true"})
    return NETWORK


class Layers:
    """The layers of one build. `head` is the image that the next step starts from."""

    def __init__(
        self, *, build: Build, engine: ContainerEngine, policy: BuildPolicy, base: ImageDetails
    ) -> None:
        self._build = build
        self._engine = engine
        self._policy = policy
        self.head = base
        self._network = ""
        self._cpus = 0.0
        # The newest last: two fresh builds may have made the same layer.
        known = sorted(
            engine.find_images(label=LAYER_LABEL), key=lambda image: str(image.created_at)
        )
        self._made = {image.labels[LAYER_LABEL]: image for image in known if self._may_take(image)}

    def _may_take(self, image: ImageDetails) -> bool:
        """Say whether a build may take a layer; one that makes everything anew only its own.

        A worker that was killed may have had no time to note that one.
        """
        own = image.labels.get(BUILD_LABEL) == str(self._build.pk)
        return bool(image.parent) and (own or not self._build.fresh)

    def end_leftovers(self, steps: int) -> None:
        """Remove the containers of steps that a killed worker had stored and not yet removed."""
        for number in range(1, steps + 2):
            self._engine.end_step(step_name(self._build, number))

    def find(self, command: str) -> ImageDetails | None:
        """Return the layer of an earlier build that this command would make; it is the head."""
        found = self._made.get(layer_key(self.head.id, command))
        # Labels pass on to whatever somebody builds on an image: the parent is the proof.
        if found is None or found.parent != self.head.id:
            return None
        self.head = found
        return found

    def adopt(self, image_id: str) -> ImageDetails:
        """Take a layer that an earlier attempt of this build made. Raise MissingOnEngine."""
        self.head = self._engine.inspect_image(image_id)
        return self.head

    def run(
        self, number: int, command: str, *, writer: OutputWriter, should_stop: Callable[[], bool]
    ) -> StepEnd:
        """Run a step; on success its layer is the head. The container is gone afterwards."""
        name = step_name(self._build, number)
        self._find_place()
        watch = DiskWatch(self._engine, name, self._policy.disk_bytes)

        def stop_asked() -> bool:
            writer.tick()
            return watch.full or should_stop()

        with watch:
            result = self._engine.run_step(
                self._spec(name, command),
                environment=site_environment(),
                on_output=writer.feed,
                should_stop=stop_asked,
            )
        writer.flush()
        if result.exit_code == 0 and not result.stopped:
            self._commit(name, command, config=self._layer_config(command))
        self._engine.end_step(name)
        return StepEnd(result=result, full=watch.full)

    def finish(
        self, number: int, *, environment: Mapping[str, str], labels: Mapping[str, str]
    ) -> None:
        """Put variables and labels on the head: the last layer, which holds no files."""
        command = json.dumps([environment, labels], sort_keys=True)
        if self.find(command) is not None:
            return
        name = step_name(self._build, number)
        self._find_place()
        self._engine.prepare_step(self._spec(name, "# variables and labels"))
        config = ImageConfig(
            environment=environment,
            labels={**labels, **self._own_labels(command)},
            working_dir="/workspace",
            command=SHELL,
            user="0",
        )
        self._commit(name, command, config=config)
        self._engine.end_step(name)

    def _find_place(self) -> None:
        """Find out once what all steps need; a build whose layers are all there needs nothing."""
        if self._network:
            return
        self._network = ensure_build_network(engine=self._engine, policy=self._policy)
        # Docker refuses more processors than there are.
        self._cpus = min(self._policy.cpus, float(self._engine.info().cpus))

    def _commit(self, name: str, command: str, *, config: ImageConfig) -> None:
        self.head = self._engine.commit_step(name, config=config, comment="DS01 Portal")

    def _layer_config(self, command: str) -> ImageConfig:
        return ImageConfig(
            environment={},
            labels=self._own_labels(command),
            working_dir="/workspace",
            command=SHELL,
        )

    def _own_labels(self, command: str) -> dict[str, str]:
        # An empty builder: a container of the image must not look like a step of a build.
        return {
            LAYER_LABEL: layer_key(self.head.id, command),
            BUILD_LABEL: str(self._build.pk),
            BUILDER_LABEL: "",
        }

    def _spec(self, name: str, command: str) -> StepSpec:
        policy = self._policy
        return StepSpec(
            name=name,
            image=self.head.id,
            command=command,
            labels={BUILDER_LABEL: str(self._build.pk)},
            network=self._network,
            cpus=self._cpus,
            memory=policy.memory_bytes,
            memory_swap=policy.memory_bytes,
            pids_limit=policy.pids,
        )


class DiskWatch:
    """Looks now and then at what a step has written; `full` when it is too much."""

    def __init__(self, engine: ContainerEngine, name: str, limit: int) -> None:
        self._engine, self._name, self._limit = engine, name, limit
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="build-disk", daemon=True)
        self.full = False

    def __enter__(self) -> DiskWatch:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._ended.set()
        self._thread.join(timeout=1)

    def _watch(self) -> None:
        pause = DISK_LOOK
        while not self._ended.wait(pause):
            begun = time.monotonic()
            try:
                self.full = self._engine.written_bytes(self._name) > self._limit
            except EngineError:
                continue  # the step itself tells what is wrong
            if self.full:
                return
            # With many files a look takes seconds: it may cost a twentieth of the time.
            pause = max(DISK_LOOK, 20 * (time.monotonic() - begun))
