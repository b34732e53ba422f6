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
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Protocol

EMPTY: Mapping[str, str] = MappingProxyType({})


class Observed(StrEnum):
    """State of a container as the engine reports it."""

    CREATED = "created"  # made, never started
    RUNNING = "running"
    PAUSED = "paused"
    EXITED = "exited"  # ran and stopped; `exit_code` is the evidence
    DEAD = "dead"  # the engine failed to remove it
    RESTARTING = "restarting"
    REMOVING = "removing"


@dataclass(frozen=True, kw_only=True, slots=True)
class Mount:
    """A bind mount: absolute host path, absolute path inside."""

    source: str
    target: str
    read_only: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerSpec:
    """Everything that decides what a container may do. An allow-list: nothing else is sent.

    Sizes in bytes, cpus in cores, `stop_timeout` in seconds. `memlock` -1 is unlimited, None
    leaves the engine's default. `devices` are UUIDs handed over as a device request; empty
    means none. `memory_swap` is memory plus swap, as Docker counts it (-1 unlimited).
    """

    name: str
    image: str
    hostname: str
    user: str  # "uid:gid"
    command: tuple[str, ...]
    working_dir: str
    environment: Mapping[str, str]
    labels: Mapping[str, str]
    mounts: tuple[Mount, ...]
    network: str
    devices: tuple[str, ...] = ()
    cpus: float
    memory: int
    memory_swap: int
    shm_size: int
    pids_limit: int
    memlock: int | None = -1
    stack: int | None = 67_108_864
    stop_timeout: int = 10
    stop_signal: str = "SIGHUP"  # an interactive shell ignores SIGTERM and ends on a hang-up


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerSummary:
    """One row of a listing: cheap, for all containers at once."""

    id: str
    name: str  # without the leading slash
    image: str  # the reference it was made from
    image_id: str
    state: Observed
    status: str  # the engine's own words, such as "Exited (137) 2 hours ago"
    created_at: dt.datetime
    labels: Mapping[str, str] = field(default_factory=lambda: EMPTY)


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerDetails:
    """What `inspect` shows of one container. `raw` is the engine's own JSON, for golden tests."""

    id: str
    name: str
    image: str
    image_id: str
    state: Observed
    exit_code: int | None
    oom_killed: bool
    error: str
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    created_at: dt.datetime
    pid: int
    user: str
    labels: Mapping[str, str]
    environment: Mapping[str, str]
    devices: tuple[str, ...]  # UUIDs or indexes as written in all device requests
    all_devices: bool  # a request for every device (count -1), or NVIDIA_VISIBLE_DEVICES=all
    device_count: int  # a request by number (`--gpus 2`): which ones is the engine's secret
    mounts: tuple[Mount, ...]
    cpus: float
    memory: int
    raw: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageDetails:
    """One image on the engine. `size` in bytes."""

    id: str
    tags: tuple[str, ...]
    size: int
    created_at: dt.datetime | None
    labels: Mapping[str, str]
    environment: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineInfo:
    """Facts about the engine and its host. `memory` and `disk_free` in bytes."""

    version: str
    api_version: str
    name: str
    cpus: int
    memory: int
    root_dir: str
    runtimes: tuple[str, ...]
    default_runtime: str
    cgroup_driver: str
    cgroup_version: str
    security_options: tuple[str, ...]
    live_restore: bool
    containers: int
    images: int


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineEvent:
    """Something that happened to a container. `action` as Docker names it: start, die, …"""

    action: str
    container_id: str
    container_name: str
    time: dt.datetime
    attributes: Mapping[str, str] = field(default_factory=lambda: EMPTY)


@dataclass(frozen=True, kw_only=True, slots=True)
class PullProgress:
    """One honest figure for a pull. `percent` never goes back; None while sizes are unknown."""

    percent: float | None
    done_bytes: int
    total_bytes: int
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class UsageSample:
    """One reading of a running container.

    `cpu_nanoseconds` is cumulative over all cores and `read_at` its time, so that a rate needs
    two samples. Bytes for memory and network (cumulative). None means unknown, never zero.
    """

    read_at: dt.datetime
    cpu_nanoseconds: int | None
    memory_bytes: int | None
    memory_limit_bytes: int | None
    network_received_bytes: int | None
    network_sent_bytes: int | None
    pids: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class TarEntry:
    """A file or (content None) a directory to put into a container."""

    path: str
    content: bytes | None
    uid: int = 0
    gid: int = 0
    mode: int = 0o644


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
