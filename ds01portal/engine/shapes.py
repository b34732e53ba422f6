"""The shapes that go in and out of a container engine: frozen, keyword only, in our own words.

Sizes are bytes, times are aware UTC datetimes. None means unknown, never zero.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


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
    labels: Mapping[str, str] = field(default_factory=dict)


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
    parent: str = ""  # id of the image it was committed on; pulled images have none
    user: str = ""  # as a container starts with; empty in listings


@dataclass(frozen=True, kw_only=True, slots=True)
class StepSpec:
    """One step of an image build: a command that runs on `image` in a container of its own.

    `command` is shell text of up to 131071 bytes, and the image's history shows it as
    `/bin/sh -c <command>`: nothing secret belongs there. `labels` pass to every image committed
    from the step. `network` is empty for the engine's default bridge, "none", "host" or a name.
    Limits as in ContainerSpec.
    """

    name: str
    image: str
    command: str
    labels: Mapping[str, str]
    network: str
    cpus: float
    memory: int
    memory_swap: int
    pids_limit: int
    shm_size: int = 67_108_864
    user: str = "0:0"
    working_dir: str = "/"


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """How a step ended. `exit_code` is None when it was stopped before it began.

    `stopped`: `should_stop` said so, whatever the exit code is then.
    """

    exit_code: int | None
    oom_killed: bool
    stopped: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageConfig:
    """What a committed image sets on top of its base; it never has an entry point.

    Variables and labels of the base stay unless named here. `command` may not be empty: the
    step's own would be taken. An empty `user` or `working_dir` is that of the step.
    """

    environment: Mapping[str, str]
    labels: Mapping[str, str]
    working_dir: str
    command: tuple[str, ...]
    user: str = ""


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
    runc_version: str = ""
    storage_driver: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineEvent:
    """Something that happened to a container. `action` as Docker names it: start, die, …"""

    action: str
    container_id: str
    container_name: str
    time: dt.datetime
    attributes: Mapping[str, str] = field(default_factory=dict)


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
