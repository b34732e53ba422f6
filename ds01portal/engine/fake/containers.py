"""Containers of the fake engine, with a real one's refusals and repeated verbs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ds01portal.exceptions import (
    DeviceDriverMissing,
    EngineConflict,
    EngineError,
    MissingOnEngine,
    RlimitRefused,
)

from .. import wire
from ..base import (
    ContainerDetails,
    ContainerSpec,
    ContainerSummary,
    Observed,
)
from .world import HOST_DEFAULTS, ZERO_TIME, FakeContainer, FakeWorld, format_time, new_id


class FakeContainers(FakeWorld):
    """The part of the fake engine that is about containers.

    `device_driver` False: containers with devices do not start. `raises_rlimits` False: nor do
    those with a memlock limit. `check_mounts` False: mounts of missing directories are fine.
    """

    device_driver = True
    raises_rlimits = True
    check_mounts = True

    def list_containers(self) -> list[ContainerSummary]:
        with self.enter("list_containers"):
            return [wire.parse_summary(_row(one)) for one in self.containers.values()]

    def inspect_container(self, id_or_name: str) -> ContainerDetails:
        with self.enter("inspect_container"):
            return wire.parse_details(_copy(self.find(id_or_name).raw))

    def create_container(self, spec: ContainerSpec) -> str:
        config = wire.container_config(spec)
        with self.enter("create_container"):
            for mount in spec.mounts:
                if self.check_mounts and not Path(mount.source).exists():
                    raise EngineError(
                        "Docker could not create the container.",
                        cause=f"bind source path does not exist: {mount.source}",
                    )
            return str(self.add_container(spec.name, config).raw["Id"])

    def add_container(self, name: str, config: Mapping[str, Any]) -> FakeContainer:
        """Create from the body of a create request. Raise EngineConflict for a taken name."""
        image = self.find_image(config["Image"])
        if any(one.name == name for one in self.containers.values()):
            raise EngineConflict(
                "Docker could not create the container: it is taken or in use.",
                cause=f'The container name "/{name}" is already in use',
            )
        given = {key: value for key, value in config.items() if key != "HostConfig"}
        environment = {**image.environment, **wire.parse_environment(config.get("Env"))}
        given["Env"] = [f"{key}={value}" for key, value in environment.items()]
        given["Labels"] = {**image.labels, **(config.get("Labels") or {})}
        host = {**HOST_DEFAULTS, **config.get("HostConfig", {})}
        raw: dict[str, Any] = {
            "Id": new_id(),
            "Name": f"/{name}",
            "Created": format_time(self.clock()),
            "Image": image.id,
            "Config": given,
            "HostConfig": host,
            "State": _state(Observed.CREATED),
            "Mounts": [_shown_mount(mount) for mount in host.get("Mounts") or ()],
            "NetworkSettings": {"Networks": {host["NetworkMode"]: {}}},
        }
        container = FakeContainer(raw=raw, files=dict(image.files))
        self.containers[raw["Id"]] = container
        self.emit("create", container)
        return container

    def start_container(self, id_or_name: str) -> None:
        with self.enter("start_container"):
            container = self.find(id_or_name)
            if container.state is Observed.RUNNING:
                return
            if container.state is Observed.PAUSED:
                raise EngineConflict("The container is paused.", cause="cannot start a paused one")
            self.check_start(container)
            self.run(container)

    def check_start(self, container: FakeContainer) -> None:
        """Raise what a real engine says against starting it."""
        host = container.raw["HostConfig"]
        network = host["NetworkMode"]
        try:
            if network not in ("default", "bridge", "host", "none") and (
                network not in self.networks
            ):
                raise EngineError(
                    "Docker could not start the container.",
                    cause=f"404: network {network} not found",
                )
            if host.get("DeviceRequests") and not self.device_driver:
                raise DeviceDriverMissing(
                    "Docker on this machine cannot hand out GPUs.",
                    cause='could not select device driver "" with capabilities: [[gpu]]',
                )
            limits = {limit["Name"] for limit in host.get("Ulimits") or ()}
            if "memlock" in limits and not self.raises_rlimits:
                raise RlimitRefused(
                    "This machine does not allow the container's limits (memlock or stack).",
                    cause="error setting rlimit type 8: operation not permitted",
                )
        except EngineError as error:
            container.raw["State"] |= {"ExitCode": 128, "Error": error.cause}
            raise

    def run(self, container: FakeContainer) -> None:
        """Let a container's main process run from now on."""
        started = format_time(self.clock())
        container.raw["State"] = _state(Observed.RUNNING) | {
            "Running": True,
            "Pid": 4_000_000 + len(self.events),
            "StartedAt": started,
        }
        container.measured_at = self.clock()
        self.emit("start", container)

    def stop_container(self, id_or_name: str, *, timeout: int = 10) -> None:
        with self.enter("stop_container"):
            try:
                container = self.find(id_or_name)
            except MissingOnEngine:
                return
            if container.state in (Observed.RUNNING, Observed.PAUSED):
                self.end(container, 137)
                self.emit("stop", container)

    def restart_container(self, id_or_name: str, *, timeout: int = 10) -> None:
        with self.enter("restart_container"):
            container = self.find(id_or_name)
            if container.state in (Observed.RUNNING, Observed.PAUSED):
                self.end(container, 137)
            self.check_start(container)
            self.run(container)
            self.emit("restart", container)

    def pause_container(self, id_or_name: str) -> None:
        with self.enter("pause_container"):
            container = self.find(id_or_name)
            if container.state is not Observed.PAUSED:
                self.measure(self.running(id_or_name))
                container.raw["State"] |= {"Status": "paused", "Paused": True}
                self.emit("pause", container)

    def resume_container(self, id_or_name: str) -> None:
        with self.enter("resume_container"):
            container = self.find(id_or_name)
            if container.state is not Observed.PAUSED:
                self.running(id_or_name)
                return
            container.measured_at = self.clock()
            container.raw["State"] |= {"Status": "running", "Paused": False}
            self.emit("unpause", container)

    def remove_container(self, id_or_name: str, *, force: bool = False) -> None:
        with self.enter("remove_container"):
            try:
                container = self.find(id_or_name)
            except MissingOnEngine:
                return
            if container.state in (Observed.RUNNING, Observed.PAUSED):
                if not force:
                    raise EngineConflict(
                        "Docker could not remove the container: it is taken or in use.",
                        cause="You cannot remove a running container",
                    )
                self.end(container, 137)
            del self.containers[container.raw["Id"]]
            self.emit("destroy", container)


def _state(status: Observed) -> dict[str, Any]:
    return {
        "Status": status.value,
        "Running": False,
        "Paused": False,
        "OOMKilled": False,
        "Pid": 0,
        "ExitCode": 0,
        "Error": "",
        "StartedAt": ZERO_TIME,
        "FinishedAt": ZERO_TIME,
    }


def _shown_mount(mount: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "Type": mount["Type"],
        "Source": mount["Source"],
        "Destination": mount["Target"],
        "RW": not mount.get("ReadOnly", False),
        "Propagation": "rprivate",
    }


def _row(container: FakeContainer) -> dict[str, Any]:
    raw = container.raw
    created = wire.parse_time(raw["Created"])
    return {
        "Id": raw["Id"],
        "Names": [raw["Name"]],
        "Image": raw["Config"]["Image"],
        "ImageID": raw["Image"],
        "State": raw["State"]["Status"],
        "Status": _words(raw["State"]),
        "Created": created.timestamp() if created else 0,
        "Labels": raw["Config"].get("Labels") or {},
    }


def _words(state: Mapping[str, Any]) -> str:
    if state["Status"] == "exited":
        return f"Exited ({state['ExitCode']}) a moment ago"
    return {"running": "Up a moment", "paused": "Up a moment (Paused)"}.get(
        state["Status"], str(state["Status"]).capitalize()
    )


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(one) for key, one in value.items()}
    return [_copy(one) for one in value] if isinstance(value, list) else value
