"""What a fake engine is made of: containers, images, networks and a list of events.

A container is kept as the JSON a real engine would show, so that one parser reads both.
Not in charge of: faults, or the contract's methods.
"""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ds01portal.exceptions import EngineConflict, MissingOnEngine

from ..base import ContainerEngine, EngineEvent, Observed
from .faults import Faults

if TYPE_CHECKING:
    from .builds import RanStep, StepScript
    from .shell import FakeTerminal

ZERO_TIME = "0001-01-01T00:00:00Z"
# What an engine fills in for keys that a create request leaves out.
HOST_DEFAULTS: Mapping[str, Any] = {
    "Binds": None,
    "Runtime": "runc",
    "DeviceRequests": None,
    "Privileged": False,
    "NetworkMode": "default",
    "CpuQuota": 0,
    "CpuPeriod": 0,
    "NanoCpus": 0,
    "Memory": 0,
    "UsernsMode": "",
    "ReadonlyRootfs": False,
}


@dataclass(slots=True)
class FakeContainer:
    """One container; `files` are those put in, `load` what it uses per second."""

    raw: dict[str, Any]
    files: dict[str, bytes]
    log: bytes = b""
    terminals: list[FakeTerminal] = field(default_factory=list)
    cpu_cores: float = 0.0
    cpu_nanoseconds: int = 0
    memory_bytes: int = 4_194_304
    network_rate: float = 0.0  # bytes a second, in and out alike
    network_bytes: int = 0
    measured_at: dt.datetime | None = None
    written: int = 0  # bytes in its own layer

    @property
    def state(self) -> Observed:
        return Observed(self.raw["State"]["Status"])

    @property
    def name(self) -> str:
        return str(self.raw["Name"]).lstrip("/")


@dataclass(slots=True)
class FakeImage:
    """One image on the engine or in the registry; `layers` are sizes in bytes.

    `history` has command and comment of each step it was committed from, oldest first.
    """

    id: str
    tags: set[str]
    layers: tuple[int, ...]
    files: Mapping[str, bytes]
    labels: Mapping[str, str]
    environment: Mapping[str, str]
    created_at: dt.datetime
    seconds_per_step: float = 0.0
    breaks_with: str = ""
    parent: str = ""
    user: str = ""
    working_dir: str = ""
    command: tuple[str, ...] = ()
    history: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class FakeNetwork:
    """One network; `subnet` in CIDR form."""

    name: str
    subnet: str
    labels: Mapping[str, str]


def format_time(moment: dt.datetime) -> str:
    """Write a time the way an engine does, with nanoseconds."""
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


def new_id() -> str:
    """Return 64 hexadecimal digits."""
    return uuid.uuid4().hex + uuid.uuid4().hex


def full_reference(reference: str) -> str:
    """Add the tag that is meant when none is given."""
    return reference if ":" in reference.rpartition("/")[2] else f"{reference}:latest"


class FakeWorld(ContainerEngine):
    """The state that all parts of the fake engine share, behind one lock."""

    def __init__(self, clock: Callable[[], dt.datetime]) -> None:
        self.clock = clock
        self.faults = Faults()
        self.containers: dict[str, FakeContainer] = {}
        self.images: dict[str, FakeImage] = {}
        self.registry: dict[str, FakeImage] = {}
        self.networks: dict[str, FakeNetwork] = {}
        self.events: list[EngineEvent] = []
        self.scripts: list[StepScript] = []
        self.steps: list[RanStep] = []
        self.changed = threading.Condition(threading.RLock())

    @contextmanager
    def enter(self, method: str) -> Iterator[None]:
        """Have the planned trouble first, then be alone with the state."""
        self.faults.check(method)
        with self.changed:
            yield

    def find(self, id_or_name: str) -> FakeContainer:
        """Raise MissingOnEngine. An id may be shortened, as for a real engine."""
        for key, one in self.containers.items():
            if one.name == id_or_name or (id_or_name and key.startswith(id_or_name)):
                return one
        raise MissingOnEngine(
            "Docker has no such container.", cause=f"No such container: {id_or_name}"
        )

    def find_image(self, reference: str) -> FakeImage:
        """Raise MissingOnEngine."""
        wanted = full_reference(reference)
        for image in self.images.values():
            if wanted in image.tags or image.id == reference:
                return image
        raise MissingOnEngine("Docker has no such image.", cause=f"No such image: {wanted}")

    def has_children(self, image: FakeImage) -> bool:
        """Return whether other images were made on it."""
        return any(one.parent == image.id for one in self.images.values())

    def running(self, id_or_name: str) -> FakeContainer:
        """Raise EngineConflict unless it runs."""
        found = self.find(id_or_name)
        if found.state is not Observed.RUNNING:
            raise EngineConflict(
                f"The container is {found.state.value}, so this cannot be done.",
                cause=f"Container {found.raw['Id']} is not running",
            )
        return found

    def emit(self, action: str, container: FakeContainer, **attributes: str) -> None:
        """Tell everybody who watches."""
        labels = container.raw["Config"].get("Labels") or {}
        self.events.append(
            EngineEvent(
                action=action,
                container_id=container.raw["Id"],
                container_name=container.name,
                time=self.clock(),
                attributes={**labels, "name": container.name, **attributes},
            )
        )
        self.changed.notify_all()

    def measure(self, container: FakeContainer) -> None:
        """Bring the cumulative figures up to now."""
        now = self.clock()
        if container.measured_at and container.state is Observed.RUNNING:
            passed = max((now - container.measured_at).total_seconds(), 0.0)
            container.cpu_nanoseconds += int(passed * container.cpu_cores * 1e9)
            container.network_bytes += int(passed * container.network_rate)
        container.measured_at = now

    def end(self, container: FakeContainer, code: int, *, out_of_memory: bool = False) -> None:
        """Let a container's main process end, and with it everything inside."""
        self.measure(container)
        container.raw["State"] |= {
            "Status": Observed.EXITED.value,
            "Running": False,
            "Paused": False,
            "Pid": 0,
            "ExitCode": code,
            "OOMKilled": out_of_memory,
            "FinishedAt": format_time(self.clock()),
        }
        for terminal in list(container.terminals):
            terminal.hang_up(137)
        if out_of_memory:
            self.emit("oom", container)
        self.emit("die", container, exitCode=str(code))
