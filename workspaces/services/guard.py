"""Guard devices against containers started behind the portal's back.

A container that lost its devices after the hold time and is started with mlc or docker gets
them again when they are free; when they are somebody else's by now it is stopped within
seconds, and its owner reads why.
"""

from __future__ import annotations

from django.db import transaction
from django.db.models import Q

from ds01portal.engine.base import ContainerDetails, ContainerEngine
from ds01portal.exceptions import NoFreeDevice, RefusedError
from ds01portal.services.events import record_event
from ds01portal.services.quotas import resolve_limits
from workspaces.models import Assignment, Container, Device, ForeignUse
from workspaces.services import adoption, assignments, observations


def guard_devices(*, container: Container, engine: ContainerEngine) -> bool:
    """Return True when the running container was stopped because its devices are not its own."""
    uuids = tuple(container.spec.get("devices", []))
    if not uuids or container.owner is None or container.is_busy:
        return False
    held = Assignment.objects.live().filter(container=container)
    if held.count() == len(uuids):
        if held.filter(hold_until__isnull=False).exists():
            held.update(hold_until=None)
        return False
    try:
        with transaction.atomic():
            assignments.reserve_devices(
                container=container,
                count=len(uuids),
                uuids=uuids,
                limits=resolve_limits(person=container.owner),
                actor=None,
            )
            assignments.bind_devices(container=container)
        return False
    except RefusedError as refusal:
        _stop(container, engine, refusal)
        return True


def check_foreign_start(*, details: ContainerDetails) -> None:
    """Raise NoFreeDevice when a container made elsewhere would use what somebody holds."""
    used = adoption.used_devices(details, Device.objects.filter(present=True))
    same_card = Q(pk__in=used) | Q(parent__in=used) | Q(instances__in=used)
    held = Assignment.objects.live().filter(device__in=Device.objects.filter(same_card))
    others = ForeignUse.objects.filter(device__in=Device.objects.filter(same_card))
    if held.exists() or others.exclude(engine_id=details.id).exists():
        raise NoFreeDevice(
            "The GPU of this container is somebody else's now.",
            hint="It was made outside of the portal, so it cannot be given another one. "
            "Launch a new container here.",
            free=0,
            requested=len(used),
        )


def _stop(container: Container, engine: ContainerEngine, refusal: RefusedError) -> None:
    reason = (
        "It was started outside of the portal, but its GPU is not free for it any more, "
        "so it was stopped. Start it here to get another one."
    )
    engine.stop_container(container.engine_name)
    details = engine.inspect_container(container.engine_name)
    container.refresh_from_db()
    with transaction.atomic():
        observations.store_stopped(container=container, details=details, reason=reason)
        record_event(
            verb="stopped by guard",
            **container.subject,
            owner=container.owner,
            after={"state": container.state},
            reason=reason,
            evidence=refusal.as_dict(),
        )
    observations.announce(container)
