"""A network of each person's own: small, without traffic between containers, gone when unused.

The subnets come from DS01_NETWORK_RANGE.
"""

from __future__ import annotations

from ds01portal.engine import get_engine
from ds01portal.engine.base import ContainerEngine
from ds01portal.services.subnets import PEOPLE_LABEL as LABEL
from ds01portal.services.subnets import free_subnets
from workspaces.models import Container
from workspaces.services.specs import network_name

# Whoever is in these may have found the network and not be on it yet.
COMING = (Container.State.LAUNCHING, Container.State.STARTING)


def ensure_network(*, container: Container, engine: ContainerEngine) -> None:
    """Make the owner's network unless it is there."""
    assert container.owner is not None
    engine.ensure_network(
        network_name(container.owner),
        subnets=free_subnets(engine),
        labels={LABEL: "true", "aime.mlc.DS01_UID": str(container.owner.uid)},
    )


def remove_network_if_unused(*, container: Container, engine: ContainerEngine) -> None:
    """Remove the owner's network when no container in any state is on it, or about to be.

    Another launch or start may have found the network and not be on it yet.
    """
    if container.owner is None:
        return
    coming = Container.objects.filter(owner=container.owner, state__in=COMING)
    if not coming.exclude(pk=container.pk).exists():
        engine.remove_network_if_unused(network_name(container.owner))


def sweep_networks(*, engine: ContainerEngine | None = None) -> int:
    """Remove people's networks that nothing uses or is about to; return how many went.

    Two launches that fail at the same moment each leave the network to the other.
    """
    chosen = engine or get_engine()
    coming = Container.objects.filter(state__in=COMING).select_related("owner")
    wanted = {network_name(row.owner) for row in coming if row.owner is not None}
    unused = [name for name in chosen.list_networks(label=LABEL) if name not in wanted]
    return sum(chosen.remove_network_if_unused(name) for name in unused)
