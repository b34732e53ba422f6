"""Networks on a Docker Engine: a bridge for each owner, without traffic between containers.

Not in charge of: which subnets may be used, when a network is no longer needed.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from docker.types import IPAMConfig, IPAMPool

from ds01portal.exceptions import EngineConflict, EngineError, MissingOnEngine

from ..base import ContainerEngine
from .client import Client
from .errors import engine_errors

ICC = "com.docker.network.bridge.enable_icc"
MISSING = "not found"  # "network x not found"; "No such network: x" on some paths


class DockerNetworks(ContainerEngine):
    """The part of the engine that is about networks."""

    _client: Client
    _network_lock: threading.Lock

    def ensure_network(
        self, name: str, *, subnets: Iterator[str], labels: Mapping[str, str]
    ) -> None:
        with self._network_lock:  # spares this process the race; others are met below
            if self._named(name):
                return
            self._create(name, subnets, labels)
            self._drop_twins(name)

    def _create(self, name: str, subnets: Iterator[str], labels: Mapping[str, str]) -> None:
        tried = 0
        for subnet in subnets:
            tried += 1
            try:
                self._create_one(name, subnet, labels)
                return
            except EngineError as error:
                if "overlap" in error.cause.lower():
                    continue
                if isinstance(error, EngineConflict) and self._named(name):
                    return
                raise
        raise EngineError(
            "There is no free address range left for another network.",
            hint="An administrator can widen the range or remove networks nobody uses.",
            cause=f"{tried} subnets tried for {name}",
        )

    def _create_one(self, name: str, subnet: str, labels: Mapping[str, str]) -> None:
        with engine_errors("create the network", missing=MISSING):
            self._client.api.create_network(
                name,
                driver="bridge",
                check_duplicate=True,
                internal=False,
                options={ICC: "false"},
                ipam=IPAMConfig(pool_configs=[IPAMPool(subnet=subnet)]),
                labels=dict(labels),
            )

    def _named(self, name: str) -> list[dict[str, Any]]:
        """Return the networks of exactly that name, oldest first. The engine matches parts.

        Raise EngineConflict when one lets containers talk to each other: it is not ours.
        """
        with engine_errors("list the networks", missing=MISSING):
            found = self._client.api.networks(names=[name])
        same = [one for one in found if one["Name"] == name]
        if any((one.get("Options") or {}).get(ICC) != "false" for one in same):
            raise EngineConflict(
                "A network of that name exists, but lets containers reach each other.",
                hint="An administrator has to remove it.",
                cause=name,
            )
        return sorted(same, key=lambda one: (one["Created"], one["Id"]))

    def _drop_twins(self, name: str) -> None:
        """Leave the oldest: engines before 25 let two creators at once both succeed.

        Every creator decides alike; a twin that is in use by now is refused and stays.
        """
        for twin in self._named(name)[1:]:
            with contextlib.suppress(EngineError):
                self._remove(twin["Id"])

    def _remove(self, network_id: str) -> None:
        with engine_errors("remove the network", missing=MISSING):
            self._client.api.remove_network(network_id)

    def list_networks(self, *, label: str) -> dict[str, tuple[str, ...]]:
        with engine_errors("list the networks", missing=MISSING):
            found = self._client.api.networks(filters={"label": [label]})
        return {one["Name"]: _subnets(one) for one in found}

    def remove_network_if_unused(self, name: str) -> bool:
        with engine_errors("list the networks", missing=MISSING):
            found = self._client.api.networks(names=[name])
        gone = [self._remove_if_unused(one) for one in found if one["Name"] == name]
        return all(gone)

    def _remove_if_unused(self, network: Mapping[str, Any]) -> bool:
        with engine_errors("list the containers"):
            # By name as well: a container that never ran has no id of its network yet.
            wanted = [network["Name"], network["Id"]]
            users = self._client.api.containers(all=True, filters={"network": wanted})
        if users:
            return False
        try:
            self._remove(network["Id"])
        except MissingOnEngine:
            return True
        except EngineError as error:
            if "active endpoints" in error.cause:
                return False
            raise
        return True


def _subnets(network: Mapping[str, Any]) -> tuple[str, ...]:
    pools = (network.get("IPAM") or {}).get("Config") or ()
    return tuple(pool["Subnet"] for pool in pools if pool.get("Subnet"))
