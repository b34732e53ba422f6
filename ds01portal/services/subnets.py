"""Small subnets for the portal's networks. Docker's default pools end after 31 of them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from django.conf import settings

from ds01portal.engine.base import ContainerEngine

__all__ = ["BUILDS_LABEL", "PEOPLE_LABEL", "free_subnets"]

PEOPLE_LABEL = "aime.mlc.DS01_NETWORK"
BUILDS_LABEL = "aime.mlc.DS01_BUILDS"


def free_subnets(engine: ContainerEngine) -> Iterator[str]:
    """Yield candidates that none of the portal's networks has; asked only when one is needed."""
    taken = {
        subnet
        for label in (PEOPLE_LABEL, BUILDS_LABEL)
        for group in engine.list_networks(label=label).values()
        for subnet in group
    }
    whole = ipaddress.ip_network(settings.DS01_NETWORK_RANGE)
    for subnet in whole.subnets(new_prefix=settings.DS01_NETWORK_PREFIX):
        if str(subnet) not in taken:
            yield str(subnet)
