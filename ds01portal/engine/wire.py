"""The engine's JSON, written and read in one place: no SDK, no network, no state.

`container_config` is the allow-list of everything a container of the portal may be; what it
does not write stays at the engine's default. The parsers accept what engines of API 1.41 and
later were seen to answer. A state that is not known raises EngineError: unknown must not be
taken for stopped. Not in charge of: which devices or limits a container should get.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ds01portal.exceptions import EngineError

from .base import (
    ContainerDetails,
    ContainerSpec,
    ContainerSummary,
    ImageDetails,
    Mount,
    Observed,
    StepSpec,
)

UTC = dt.UTC
LOG_OPTIONS = {"max-size": "10m", "max-file": "3"}
NVIDIA_CDI_PREFIX = "nvidia.com/gpu="
HOST_NETWORKS = ("", "host", "default")
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)$")


def container_config(spec: ContainerSpec) -> dict[str, Any]:
    """Return the body of a create request. Raise EngineError for a network of the host's."""
    if spec.network in HOST_NETWORKS or ":" in spec.network:
        raise EngineError(
            "The container was not created: it would share a network that is not its own.",
            cause=f"network {spec.network!r}",
        )
    return {
        "Image": spec.image,
        "Hostname": spec.hostname,
        "User": spec.user,
        # The image's own entry point and health check do not run: the shell is the main process.
        "Entrypoint": [""],
        "Healthcheck": {"Test": ["NONE"]},
        "Cmd": list(spec.command),
        "WorkingDir": spec.working_dir,
        "Env": [f"{key}={value}" for key, value in spec.environment.items()],
        "Labels": dict(spec.labels),
        "Tty": True,
        "OpenStdin": True,
        "StdinOnce": False,
        "StopTimeout": spec.stop_timeout,
        "StopSignal": spec.stop_signal,
        "HostConfig": _host_config(spec),
    }


def closed_host_config(spec: ContainerSpec | StepSpec) -> dict[str, Any]:
    """Return what holds for every container of the portal: nothing of the host, and limits."""
    return {
        "Privileged": False,
        "CapAdd": [],
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],  # seccomp unnamed: the engine's default profile
        "NetworkMode": spec.network,
        "IpcMode": "private",
        "PidMode": "",
        "UTSMode": "",
        "CgroupnsMode": "private",
        "PublishAllPorts": False,
        "PortBindings": {},
        "Devices": [],
        "AutoRemove": False,
        # A container that comes back by itself would bring back what was ended.
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "NanoCpus": round(spec.cpus * 1_000_000_000),
        "Memory": spec.memory,
        "MemorySwap": spec.memory_swap,
        "ShmSize": spec.shm_size,
        "PidsLimit": spec.pids_limit,
        "Mounts": [],
    }


def _host_config(spec: ContainerSpec) -> dict[str, Any]:
    config: dict[str, Any] = {
        **closed_host_config(spec),
        "Init": True,
        "Ulimits": _ulimits(memlock=spec.memlock, stack=spec.stack),
        "Mounts": [_mount(mount) for mount in spec.mounts],
        "LogConfig": {"Type": "json-file", "Config": dict(LOG_OPTIONS)},
    }
    if spec.devices:
        config["DeviceRequests"] = [
            {"DeviceIDs": list(spec.devices), "Capabilities": [["gpu"]], "Count": 0}
        ]
    return config


def _ulimits(**limits: int | None) -> list[dict[str, Any]]:
    return [
        {"Name": name, "Soft": value, "Hard": value}
        for name, value in limits.items()
        if value is not None
    ]


def _mount(mount: Mount) -> dict[str, Any]:
    # A mount of type bind, unlike an entry of Binds, is refused when its source is missing;
    # the other form makes an empty directory that belongs to root.
    return {
        "Type": "bind",
        "Source": mount.source,
        "Target": mount.target,
        "ReadOnly": mount.read_only,
        "BindOptions": {"Propagation": "rprivate"},
    }


def parse_time(text: str | None) -> dt.datetime | None:
    """Read a time with up to nanoseconds; the year 1, empty and None mean never."""
    found = _TIME.match(text or "")
    if found is None:
        return None
    seconds, fraction, zone = found.groups()
    micros = (fraction or ".0")[1:7].ljust(6, "0")
    moment = dt.datetime.fromisoformat(f"{seconds}.{micros}{zone.replace('Z', '+00:00')}")
    return None if moment.year <= 1 else moment.astimezone(UTC)


def from_timestamp(seconds: float | None) -> dt.datetime:
    """Read seconds since 1970."""
    return dt.datetime.fromtimestamp(seconds or 0, UTC)


def parse_environment(lines: Iterable[str] | None) -> dict[str, str]:
    """Read `KEY=value` lines; as in a shell, the last one of a name counts."""
    return {key: value for key, _, value in (line.partition("=") for line in lines or ())}


def parse_state(text: str) -> Observed:
    """Raise EngineError for a state this portal does not know."""
    try:
        return Observed(text.lower())
    except ValueError as error:
        raise EngineError(
            "Docker reports a state of a container that the portal does not know.",
            cause=f"state {text!r}",
        ) from error


class DeviceClaim(NamedTuple):
    """Which GPUs a container holds, as far as its own description tells."""

    devices: tuple[str, ...]
    everything: bool
    counted: int


def parse_devices(raw: Mapping[str, Any]) -> DeviceClaim:
    """Read all device requests; failing any, what the NVIDIA runtime is told by variable.

    The variable alone says nothing: most CUDA images set it to `all`, and only NVIDIA's own
    runtime acts on it. Where there is a request, the engine overrides the variable.
    """
    host = raw.get("HostConfig") or {}
    requests = [one for one in host.get("DeviceRequests") or () if _asks_for_gpu(one)]
    if requests:
        return _parse_requests(requests)
    if not str(host.get("Runtime") or "").startswith("nvidia"):
        return DeviceClaim((), False, 0)
    environment = parse_environment((raw.get("Config") or {}).get("Env"))
    wanted = environment.get("NVIDIA_VISIBLE_DEVICES", "").strip()
    if wanted in ("", "void", "none"):
        return DeviceClaim((), False, 0)
    names = tuple(name.strip() for name in wanted.split(",") if name.strip())
    return _claim(names)


def _asks_for_gpu(request: Mapping[str, Any]) -> bool:
    if request.get("Driver") in ("nvidia", "cdi"):
        return True
    return any("gpu" in group for group in request.get("Capabilities") or ())


def _parse_requests(requests: list[Mapping[str, Any]]) -> DeviceClaim:
    names: list[str] = []
    count = 0
    for request in requests:
        ids = request.get("DeviceIDs") or []
        names += [str(name).removeprefix(NVIDIA_CDI_PREFIX) for name in ids]
        asked = int(request.get("Count") or 0)
        if asked < 0:
            names.append("all")
        count += max(asked, 0)
    return _claim(tuple(dict.fromkeys(names)))._replace(counted=count)


def _claim(names: tuple[str, ...]) -> DeviceClaim:
    return DeviceClaim(tuple(name for name in names if name != "all"), "all" in names, 0)


def parse_details(raw: Mapping[str, Any]) -> ContainerDetails:
    """Read one container's full description."""
    config = raw.get("Config") or {}
    host = raw.get("HostConfig") or {}
    state = raw.get("State") or {}
    observed = parse_state(str(state.get("Status") or ""))
    claim = parse_devices(raw)
    ended = observed in (Observed.EXITED, Observed.DEAD)
    return ContainerDetails(
        id=raw["Id"],
        name=str(raw.get("Name") or "").lstrip("/"),
        image=str(config.get("Image") or ""),
        image_id=str(raw.get("Image") or ""),
        state=observed,
        exit_code=int(state.get("ExitCode") or 0) if ended else None,
        oom_killed=bool(state.get("OOMKilled")),
        error=str(state.get("Error") or ""),
        started_at=parse_time(state.get("StartedAt")),
        finished_at=parse_time(state.get("FinishedAt")),
        created_at=parse_time(raw.get("Created")) or from_timestamp(0),
        pid=int(state.get("Pid") or 0),
        user=str(config.get("User") or ""),
        labels=dict(config.get("Labels") or {}),
        environment=parse_environment(config.get("Env")),
        devices=claim.devices,
        all_devices=claim.everything,
        device_count=claim.counted,
        mounts=_parse_mounts(raw),
        cpus=_parse_cpus(host),
        memory=int(host.get("Memory") or 0),
        raw=dict(raw),
    )


def _parse_mounts(raw: Mapping[str, Any]) -> tuple[Mount, ...]:
    return tuple(
        Mount(source=one["Source"], target=one["Destination"], read_only=not one.get("RW", True))
        for one in raw.get("Mounts") or ()
        if one.get("Type") == "bind"
    )


def _parse_cpus(host: Mapping[str, Any]) -> float:
    if host.get("NanoCpus"):
        return float(host["NanoCpus"]) / 1_000_000_000
    if (host.get("CpuQuota") or 0) > 0:
        return float(host["CpuQuota"]) / float(host.get("CpuPeriod") or 100_000)
    return 0.0


def parse_summary(row: Mapping[str, Any]) -> ContainerSummary:
    """Read one row of a listing."""
    # Links of other containers appear as further names with a second slash.
    names = [name for name in row.get("Names") or () if name.count("/") == 1]
    return ContainerSummary(
        id=row["Id"],
        name=names[0].lstrip("/") if names else row["Id"][:12],
        image=str(row.get("Image") or ""),
        image_id=str(row.get("ImageID") or ""),
        state=parse_state(str(row.get("State") or "")),
        status=str(row.get("Status") or ""),
        created_at=from_timestamp(row.get("Created")),
        labels=dict(row.get("Labels") or {}),
    )


def parse_image(raw: Mapping[str, Any]) -> ImageDetails:
    """Read an image, inspected or of a listing (which tells no environment)."""
    created = raw.get("Created")
    config = raw.get("Config") or {}
    return ImageDetails(
        id=raw["Id"],
        tags=tuple(tag for tag in raw.get("RepoTags") or () if not tag.startswith("<none>")),
        size=int(raw.get("Size") or 0),
        created_at=parse_time(created) if isinstance(created, str) else from_timestamp(created),
        labels=dict(config.get("Labels") or raw.get("Labels") or {}),
        environment=parse_environment(config.get("Env")),
        parent=str(raw.get("Parent") or raw.get("ParentId") or ""),
        user=str(config.get("User") or ""),
    )
