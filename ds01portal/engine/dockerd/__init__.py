"""Docker Engine behind the portal's contract. The only package that imports the SDK.

Each module is one noun; all share one `Client`. Not in charge of: anything above an engine.
"""

from __future__ import annotations

import threading
from typing import Any

from ..base import EngineInfo
from .builds import DockerBuilds
from .client import Client
from .containers import DockerContainers
from .errors import engine_errors
from .events import DockerEvents
from .execs import DockerExecs
from .images import DockerImages
from .layers import DockerLayers
from .networks import DockerNetworks

__all__ = ["DockerEngine"]


class DockerEngine(
    DockerContainers,
    DockerExecs,
    DockerImages,
    DockerLayers,
    DockerBuilds,
    DockerNetworks,
    DockerEvents,
):
    """Docker Engine at `base_url` (`unix://…`, `tcp://…`), API 1.41 or later.

    Nothing is connected before the first question. One object serves all threads. `timeout`
    in seconds bounds every single answer; pulls and events have none.
    """

    def __init__(self, base_url: str, timeout: float = 60) -> None:
        self._client = Client(base_url, timeout)
        self._network_lock = threading.Lock()

    def close(self) -> None:
        """Give back all connections. The engine can be used again."""
        self._client.close()

    def ping(self) -> None:
        with engine_errors("answer"):
            self._client.api.ping()

    def info(self) -> EngineInfo:
        with engine_errors("describe itself"):
            raw = self._client.api.info()
            parts = self._client.api.version(api_version=False).get("Components") or ()
            versions = {str(part["Name"]): str(part.get("Version") or "") for part in parts}
            return _parse_info(raw, self._client.api.api_version, versions)


def _parse_info(raw: dict[str, Any], api_version: str, versions: dict[str, str]) -> EngineInfo:
    return EngineInfo(
        version=str(raw.get("ServerVersion") or ""),
        api_version=api_version,
        name=str(raw.get("Name") or ""),
        cpus=int(raw.get("NCPU") or 0),
        memory=int(raw.get("MemTotal") or 0),
        root_dir=str(raw.get("DockerRootDir") or ""),
        runtimes=tuple(sorted(raw.get("Runtimes") or {})),
        default_runtime=str(raw.get("DefaultRuntime") or ""),
        cgroup_driver=str(raw.get("CgroupDriver") or ""),
        cgroup_version=str(raw.get("CgroupVersion") or "1"),
        security_options=tuple(raw.get("SecurityOptions") or ()),
        live_restore=bool(raw.get("LiveRestoreEnabled")),
        containers=int(raw.get("Containers") or 0),
        images=int(raw.get("Images") or 0),
        runc_version=versions.get("runc", ""),
        storage_driver=str(raw.get("Driver") or ""),
    )
