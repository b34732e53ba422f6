"""Containers on a Docker Engine: look, create, start, stop, remove, files, figures.

Not in charge of: commands and terminals inside (`execs`, `terminal`).
"""

from __future__ import annotations

import datetime as dt
import io
import posixpath
import tarfile
import time
from collections.abc import Mapping
from typing import Any

from ds01portal.exceptions import EngineConflict, EngineError, MissingOnEngine

from .. import wire
from ..base import (
    ContainerDetails,
    ContainerEngine,
    ContainerSpec,
    ContainerSummary,
    Observed,
    TarEntry,
    UsageSample,
)
from .client import Client
from .errors import NO_IMAGE, engine_errors

REMOVAL_PATIENCE = 10.0  # seconds for a removal that somebody else has begun


class DockerContainers(ContainerEngine):
    """The part of the engine that is about containers."""

    _client: Client

    def list_containers(self) -> list[ContainerSummary]:
        with engine_errors("list the containers"):
            rows = self._client.api.containers(all=True)
        return [wire.parse_summary(row) for row in rows]

    def inspect_container(self, id_or_name: str) -> ContainerDetails:
        with engine_errors("look at the container"):
            raw = self._client.api.inspect_container(id_or_name)
        return wire.parse_details(raw)

    def create_container(self, spec: ContainerSpec) -> str:
        config = wire.container_config(spec)
        with engine_errors("create the container", missing=NO_IMAGE):
            # Not the SDK's own composer: it adds variables from the docker client's
            # configuration file, and has arguments for everything that must not be set.
            create = self._client.api.create_container_from_config
            made = create(config, name=spec.name)  # type: ignore[no-untyped-call]
        return str(made["Id"])

    def start_container(self, id_or_name: str) -> None:
        with engine_errors("start the container"):
            self._client.api.start(id_or_name)

    def stop_container(self, id_or_name: str, *, timeout: int = 10) -> None:
        try:
            with engine_errors("stop the container"):
                self._client.api.stop(id_or_name, timeout=timeout)
        except MissingOnEngine:
            return

    def restart_container(self, id_or_name: str, *, timeout: int = 10) -> None:
        with engine_errors("restart the container"):
            self._client.api.restart(id_or_name, timeout=timeout)

    def pause_container(self, id_or_name: str) -> None:
        try:
            with engine_errors("pause the container"):
                self._client.api.pause(id_or_name)
        except EngineError as error:
            self._accept(id_or_name, Observed.PAUSED, error)

    def resume_container(self, id_or_name: str) -> None:
        try:
            with engine_errors("resume the container"):
                self._client.api.unpause(id_or_name)
        except EngineError as error:
            self._accept(id_or_name, Observed.RUNNING, error)

    def _accept(self, id_or_name: str, wanted: Observed, error: EngineError) -> None:
        """Forgive a refusal of what is done already; engines word and number it differently."""
        state = self.inspect_container(id_or_name).state
        if state == wanted:
            return
        if state in (Observed.RUNNING, Observed.PAUSED):
            raise error
        raise EngineConflict(
            f"The container is {state.value}, so this cannot be done.", cause=error.cause
        ) from error

    def remove_container(self, id_or_name: str, *, force: bool = False) -> None:
        try:
            with engine_errors("remove the container"):
                self._client.api.remove_container(id_or_name, v=True, force=force)
        except MissingOnEngine:
            return
        except EngineConflict as error:
            if "in progress" not in error.cause:
                raise
            self._await_removal(id_or_name, error)

    def _await_removal(self, id_or_name: str, error: EngineError) -> None:
        deadline = time.monotonic() + REMOVAL_PATIENCE
        while time.monotonic() < deadline:
            try:
                self.inspect_container(id_or_name)
            except MissingOnEngine:
                return
            time.sleep(0.1)
        raise error

    def put_files(self, id_or_name: str, entries: tuple[TarEntry, ...]) -> None:
        archive = make_archive(entries)
        with engine_errors("write files into the container"):
            self._client.api.put_archive(id_or_name, "/", archive)

    def read_logs(
        self, id_or_name: str, *, tail: int = 500, since: dt.datetime | None = None
    ) -> bytes:
        with engine_errors("read the container's log"):
            return self._client.api.logs(
                id_or_name, tail=tail, since=since.timestamp() if since else None
            )

    def read_usage(self, id_or_name: str) -> UsageSample:
        with engine_errors("measure the container"):
            raw = self._client.api.stats(id_or_name, stream=False, one_shot=True)
        return parse_usage(raw)


def make_archive(entries: tuple[TarEntry, ...]) -> bytes:
    """Return a tar archive to be unpacked at `/`. Ids may be larger than tar's own fields."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            info = tarfile.TarInfo(posixpath.normpath(entry.path).lstrip("/"))
            info.uid, info.gid, info.mode = entry.uid, entry.gid, entry.mode
            info.mtime = int(time.time())
            if entry.content is None:
                info.type = tarfile.DIRTYPE
                archive.addfile(info)
            else:
                info.size = len(entry.content)
                archive.addfile(info, io.BytesIO(entry.content))
    return buffer.getvalue()


def parse_usage(raw: Mapping[str, Any]) -> UsageSample:
    """Read one reading; a container that does not run has a time of never, and no figures."""
    read_at = wire.parse_time(raw.get("read"))
    memory = raw.get("memory_stats") or {}
    networks = raw.get("networks")
    return UsageSample(
        read_at=read_at or dt.datetime.now(dt.UTC),
        cpu_nanoseconds=_number((raw.get("cpu_stats") or {}).get("cpu_usage"), "total_usage")
        if read_at
        else None,
        memory_bytes=_working_set(memory),
        memory_limit_bytes=_number(memory, "limit"),
        network_received_bytes=_sum(networks, "rx_bytes"),
        network_sent_bytes=_sum(networks, "tx_bytes"),
        pids=_number(raw.get("pids_stats"), "current"),
    )


def _number(values: Mapping[str, Any] | None, key: str) -> int | None:
    value = (values or {}).get(key)
    return None if value is None else int(value)


def _working_set(memory: Mapping[str, Any]) -> int | None:
    """Leave out the file cache that is free for the taking, as `docker stats` does."""
    usage = _number(memory, "usage")
    if usage is None:
        return None
    stats = memory.get("stats") or {}
    cache = stats.get("total_inactive_file", stats.get("inactive_file", 0))  # cgroup v1, v2
    return max(usage - int(cache), 0)


def _sum(networks: Mapping[str, Any] | None, key: str) -> int | None:
    if not networks:
        return None
    return sum(int(one.get(key) or 0) for one in networks.values())
