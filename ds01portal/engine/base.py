"""What the portal asks of a container engine, in the portal's own words.

Every method may be repeated: removing or stopping what is not there is success, pulling an
image that is there is quick. `create_container` and `start_container` are two calls; undoing
the first when the second fails is the caller's job. Errors are the EngineError family of
`ds01portal.exceptions`; nothing of an SDK passes through.

Not in charge of: who may do what, which device is free, any database row.
"""

from __future__ import annotations

import datetime as dt
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from ds01portal.engine.shapes import (
    ContainerDetails,
    ContainerSpec,
    ContainerSummary,
    EngineEvent,
    EngineInfo,
    ImageConfig,
    ImageDetails,
    Mount,
    Observed,
    PullProgress,
    StepResult,
    StepSpec,
    TarEntry,
    UsageSample,
)

__all__ = [
    "ContainerDetails",
    "ContainerEngine",
    "ContainerSpec",
    "ContainerSummary",
    "EngineEvent",
    "EngineInfo",
    "ImageConfig",
    "ImageDetails",
    "Mount",
    "Observed",
    "PullProgress",
    "StepResult",
    "StepSpec",
    "TarEntry",
    "TerminalSession",
    "UsageSample",
]


class TerminalSession(Protocol):
    """An interactive shell inside a container."""

    def fileno(self) -> int: ...

    def read(self, size: int = 65536) -> bytes: ...

    def write(self, data: bytes) -> None: ...

    def resize(self, *, columns: int, rows: int) -> None: ...

    def exit_code(self) -> int | None: ...

    def close(self) -> None:
        """Hang up: the shell and what it started in the foreground end."""


class ContainerEngine(ABC):
    """The only door to a container engine."""

    def close(self) -> None:  # noqa: B027 - an engine without connections has none to close
        """Give back connections. The engine can be used again."""

    @abstractmethod
    def info(self) -> EngineInfo:
        """Return the engine's facts; raise EngineUnreachable when it does not answer."""

    @abstractmethod
    def ping(self) -> None:
        """Return when the engine answers; raise EngineUnreachable otherwise."""

    # Containers

    @abstractmethod
    def list_containers(self) -> list[ContainerSummary]:
        """Return all containers in every state, in one call."""

    @abstractmethod
    def inspect_container(self, id_or_name: str) -> ContainerDetails:
        """Raise MissingOnEngine when it does not exist."""

    @abstractmethod
    def create_container(self, spec: ContainerSpec) -> str:
        """Return the id. Raise EngineConflict when the name is taken."""

    @abstractmethod
    def start_container(self, id_or_name: str) -> None:
        """Success when it runs already. Raise MissingOnEngine when it does not exist."""

    @abstractmethod
    def stop_container(self, id_or_name: str, *, timeout: int = 10) -> None:
        """Success when it is stopped or missing. `timeout` seconds until SIGKILL."""

    @abstractmethod
    def restart_container(self, id_or_name: str, *, timeout: int = 10) -> None: ...

    @abstractmethod
    def pause_container(self, id_or_name: str) -> None:
        """Success when it is paused already."""

    @abstractmethod
    def resume_container(self, id_or_name: str) -> None:
        """Success when it runs already."""

    @abstractmethod
    def remove_container(self, id_or_name: str, *, force: bool = False) -> None:
        """Success when it is missing. Anonymous volumes go with it."""

    @abstractmethod
    def put_files(self, id_or_name: str, entries: tuple[TarEntry, ...]) -> None:
        """Write files and directories into a container that need not run."""

    @abstractmethod
    def read_logs(
        self, id_or_name: str, *, tail: int = 500, since: dt.datetime | None = None
    ) -> bytes: ...

    @abstractmethod
    def read_usage(self, id_or_name: str) -> UsageSample: ...

    @abstractmethod
    def run_command(
        self, id_or_name: str, command: tuple[str, ...], *, user: str = "", timeout: float = 30
    ) -> tuple[int, bytes]:
        """Return exit code and output (both streams) of a command inside."""

    @abstractmethod
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
    ) -> TerminalSession: ...

    # Images

    @abstractmethod
    def list_images(self) -> list[ImageDetails]:
        """Return all tagged images in one call; `environment` is empty here."""

    @abstractmethod
    def inspect_image(self, reference: str) -> ImageDetails:
        """Raise MissingOnEngine when it is not on this machine."""

    @abstractmethod
    def pull_image(
        self,
        reference: str,
        *,
        on_progress: Callable[[PullProgress], None],
        is_cancelled: Callable[[], bool],
    ) -> ImageDetails:
        """Pull with all layers turned into one percentage.

        Raise ImagePullFailed; stop early and raise it with code "cancelled" in `fields`
        (`cancelled=True`) when `is_cancelled()` becomes true (asked at least twice a second).
        """

    @abstractmethod
    def tag_image(self, reference: str, target: str) -> None: ...

    @abstractmethod
    def untag_image(self, reference: str) -> None:
        """Remove one tag, never a layer that another tag keeps. Success when missing."""

    @abstractmethod
    def read_image_files(self, reference: str, paths: tuple[str, ...]) -> dict[str, bytes]:
        """Return the files that exist, read from a container that is never started."""

    @abstractmethod
    def find_images(self, *, label: str) -> list[ImageDetails]:
        """Return all images with the label (`name` or `name=value`), tagged or not.

        Parents that only other images keep are among them; `environment` is empty here.
        """

    @abstractmethod
    def list_dangling_images(self, *, label: str) -> list[ImageDetails]:
        """Return those of `find_images` that have neither a tag nor an image made on them."""

    @abstractmethod
    def remove_image(self, reference_or_id: str) -> bool:
        """Remove a tag, or an untagged image by its id; return False when it is missing.

        With an image's last tag the image goes, and with an image all its untagged parents
        that nothing else needs. A tag of an image that others were made on goes alone. Raise
        EngineConflict when a container uses the image, or an image given by id has a tag or
        others were made on it.
        """

    @abstractmethod
    def read_layers_size(self) -> int | None:
        """Return the bytes of all images' layers, shared ones once; None if it takes long."""

    # Image builds: prepare or run, commit, end

    @abstractmethod
    def prepare_step(self, spec: StepSpec) -> None:
        """Make the step's container and do not start it, for a commit that only adds metadata.

        A container of that name that is left over, known by having all of the spec's labels,
        is replaced whatever its state; raise EngineConflict when it is somebody else's.
        """

    @abstractmethod
    def run_step(
        self,
        spec: StepSpec,
        *,
        environment: Mapping[str, str],
        on_output: Callable[[bytes], None],
        should_stop: Callable[[], bool],
    ) -> StepResult:
        """Prepare the step's container, run it to its end, and leave it for the commit.

        `environment` reaches the command and is kept nowhere: neither the container's
        description nor an image has it. `on_output` gets both streams in the order they were
        written, as they come; `should_stop` is asked every tenth of a second, and its yes
        kills the step. What either raises comes through, after the step was killed. Raise
        ValueError for variables a line cannot carry or a command that is too long, and
        EngineUnreachable when the connection is cut (the step may go on then; the next one of
        its name ends it).
        """

    @abstractmethod
    def written_bytes(self, name: str) -> int:
        """Return the size of what the step's container has written; slow with many files."""

    @abstractmethod
    def commit_step(self, name: str, *, config: ImageConfig, comment: str) -> ImageDetails:
        """Make an untagged image of the step's container; ended, or prepared and never run."""

    @abstractmethod
    def end_step(self, name: str) -> None:
        """Remove the step's container, running or not. Success when it is missing."""

    # Networks

    @abstractmethod
    def ensure_network(
        self, name: str, *, subnets: Iterator[str], labels: Mapping[str, str]
    ) -> None:
        """Make a bridge without inter-container traffic unless it exists.

        `subnets` are candidates in CIDR form, tried in turn while the engine says they overlap.
        Raise EngineError when none is left.
        """

    @abstractmethod
    def list_networks(self, *, label: str) -> dict[str, tuple[str, ...]]:
        """Return name → subnets of the networks that carry the label."""

    @abstractmethod
    def remove_network_if_unused(self, name: str) -> bool:
        """Return True when it is gone. Containers in any state keep it."""

    # Events

    @abstractmethod
    def watch_events(
        self, *, since: dt.datetime | None, should_stop: Callable[[], bool]
    ) -> Iterator[EngineEvent]:
        """Yield container events until `should_stop()`; raise EngineUnreachable when cut off."""
