"""An engine in memory that behaves like Docker Engine and fails when told to.

For tests and for demonstrations on a machine without Docker. It lives in one process. What
cannot be done with a real engine is below: presets, foreign containers, trouble on request.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from ds01portal.exceptions import EngineError

from ..base import EngineEvent, EngineInfo, Mount
from .builds import FakeBuilds
from .faults import ANY
from .images import FakeImages
from .insides import FakeInsides
from .layers import FakeLayers
from .world import FakeNetwork, FakeWorld

__all__ = ["ANY", "FakeEngine"]

POLL_SECONDS = 0.05


class FakeNetworks(FakeWorld):
    """The part of the fake engine that is about networks."""

    def ensure_network(
        self, name: str, *, subnets: Iterator[str], labels: Mapping[str, str]
    ) -> None:
        with self.enter("ensure_network"):
            if name in self.networks:
                return
            for subnet in subnets:
                mine = ipaddress.ip_network(subnet)
                taken = (ipaddress.ip_network(one.subnet) for one in self.networks.values())
                if not any(mine.overlaps(other) for other in taken):
                    self.networks[name] = FakeNetwork(name, subnet, dict(labels))
                    return
            raise EngineError(
                "There is no free address range left for another network.", cause=name
            )

    def list_networks(self, *, label: str) -> dict[str, tuple[str, ...]]:
        key, _, value = label.partition("=")
        with self.enter("list_networks"):
            return {
                one.name: (one.subnet,)
                for one in self.networks.values()
                if key in one.labels and (not value or one.labels[key] == value)
            }

    def remove_network_if_unused(self, name: str) -> bool:
        with self.enter("remove_network_if_unused"):
            users = (one.raw["HostConfig"]["NetworkMode"] for one in self.containers.values())
            if name in users:
                return False
            self.networks.pop(name, None)
            return True


class FakeEngine(FakeBuilds, FakeInsides, FakeImages, FakeLayers, FakeNetworks):
    """A whole engine. `clock` tells the time for everything it records.

    Trouble: `fail_next`, `hang` and `release`, `go_down` and `come_up`; `calls` has the names
    of all methods asked for. `base_url` and `timeout` are what a real engine takes.
    """

    def __init__(
        self,
        base_url: str = "",
        timeout: float = 60,
        *,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
        check_mounts: bool = True,
    ) -> None:
        super().__init__(clock)
        self.check_mounts = check_mounts
        self.calls = self.faults.calls
        self.fail_next = self.faults.fail_next
        self.hang = self.faults.hang
        self.release = self.faults.release

    def go_down(self) -> None:
        """Answer no more. Containers go on as they are; watchers are cut off."""
        with self.changed:
            self.faults.go_down()
            self.changed.notify_all()

    def come_up(self) -> None:
        """Answer again."""
        self.faults.come_up()

    def ping(self) -> None:
        self.faults.check("ping")

    def info(self) -> EngineInfo:
        with self.enter("info"):
            return EngineInfo(
                version="27.0.0",
                api_version="1.46",
                name="fake",
                cpus=64,
                memory=549_755_813_888,
                root_dir="/var/lib/docker",
                runtimes=("nvidia", "runc") if self.device_driver else ("runc",),
                default_runtime="runc",
                cgroup_driver="systemd",
                cgroup_version="2",
                security_options=("name=seccomp,profile=builtin", "name=cgroupns"),
                live_restore=True,
                containers=len(self.containers),
                images=len(self.images),
                runc_version="1.3.3",
                storage_driver="overlay2",
            )

    def watch_events(
        self, *, since: dt.datetime | None, should_stop: Callable[[], bool]
    ) -> Iterator[EngineEvent]:
        with self.enter("watch_events"):
            position = len(self.events)
            if since is not None:
                past = [i for i, event in enumerate(self.events) if event.time >= since]
                position = past[0] if past else position
        while not should_stop():
            with self.changed:
                self.faults.require_up()
                fresh = self.events[position:]
                if not fresh:
                    self.changed.wait(POLL_SECONDS)
            position += len(fresh)
            for event in fresh:
                if should_stop():
                    return
                yield event

    # What only a fake can do

    def spawn_foreign(
        self,
        name: str,
        *,
        image: str = "foreign/image:1",
        labels: Mapping[str, str] | None = None,
        user: str = "",
        environment: Mapping[str, str] | None = None,
        mounts: tuple[Mount, ...] = (),
        devices: tuple[str, ...] = (),
        all_devices: bool = False,
        device_count: int = 0,
        runtime: str = "runc",
        running: bool = True,
        command: tuple[str, ...] = ("bash",),
    ) -> str:
        """Have a container that somebody else made with `docker run`; return its id.

        The devices are `--gpus device=…`, `--gpus all` or `--gpus <count>`.
        """
        with self.changed:
            if not any(image in one.tags for one in self.images.values()):
                self.add_image(image)
            request: dict[str, Any] = {"Driver": "", "Capabilities": [["gpu"]], "DeviceIDs": None}
            request["Count"] = -1 if all_devices else device_count
            if devices:
                request |= {"DeviceIDs": list(devices), "Count": 0}
            wants = bool(devices or all_devices or device_count)
            config = {
                "Image": image,
                "User": user,
                "Cmd": list(command),
                "Env": [f"{key}={value}" for key, value in (environment or {}).items()],
                "Labels": dict(labels or {}),
                "HostConfig": {
                    "Runtime": runtime,
                    "DeviceRequests": [request] if wants else None,
                    "Mounts": [_bind(mount) for mount in mounts],
                },
            }
            container = self.add_container(name, config)
            if running:
                self.run(container)
            return str(container.raw["Id"])

    def exit_container(
        self, id_or_name: str, code: int = 0, *, out_of_memory: bool = False
    ) -> None:
        """Let a container's main process end by itself."""
        with self.changed:
            self.end(self.find(id_or_name), code, out_of_memory=out_of_memory)

    def set_load(
        self,
        id_or_name: str,
        *,
        cpu_cores: float = 0.0,
        memory_bytes: int | None = None,
        network_bytes_per_second: float = 0.0,
    ) -> None:
        """Set what a container uses from now on, as the clock goes."""
        with self.changed:
            container = self.find(id_or_name)
            self.measure(container)
            container.cpu_cores = cpu_cores
            container.network_rate = network_bytes_per_second
            if memory_bytes is not None:
                container.memory_bytes = memory_bytes

    def write_log(self, id_or_name: str, data: bytes) -> None:
        """Append to a container's log."""
        with self.changed:
            self.find(id_or_name).log += data

    def read_file(self, id_or_name: str, path: str) -> bytes | None:
        """Return a file that was put into a container, None when there is none."""
        with self.changed:
            return self.find(id_or_name).files.get(str(PurePosixPath(path)))

    def open_terminals(self, id_or_name: str) -> int:
        """Return how many shells of terminals run in a container."""
        with self.changed:
            return len(self.find(id_or_name).terminals)


def _bind(mount: Mount) -> dict[str, Any]:
    return {
        "Type": "bind",
        "Source": mount.source,
        "Target": mount.target,
        "ReadOnly": mount.read_only,
    }
