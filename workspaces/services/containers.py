"""The verbs on containers that pages, admin and commands call.

Each is one short durable transaction: who may, what the quota says, which devices, what is
desired, the event. The worker does the rest. Not in charge of: talking to the engine.
"""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from ds01portal.exceptions import Busy, IllegalTransition, NotFound, RefusedError
from ds01portal.models import Operation, Person
from ds01portal.services.events import announce_update, record_event
from ds01portal.services.operations import cancel_operation, request_operation
from ds01portal.services.people import ensure_identity
from ds01portal.services.quotas import EffectiveLimits, resolve_limits
from workspaces.models import Assignment, Container, Device, Machine
from workspaces.services import assignments, observations, preflight
from workspaces.services.launch_images import lock_image
from workspaces.services.requests import LaunchRequest, choose_size
from workspaces.services.specs import engine_name, network_name

State = Container.State


def find_container(*, person: Person, name: str, owner: Person | None = None) -> Container:
    """Return a live container that a person may see; raise NotFound, also for strangers."""
    rows = Container.objects.live().visible_to(person).filter(owner=owner or person, name=name)
    container = rows.exclude(state=State.FAILED).first() or rows.first()
    if container is None:
        raise NotFound(
            f"There is no container named {name[:60]}.",
            hint="list_containers shows what there is.",
            field="name",
            value=name[:60],
        )
    return container


def launch_container(*, request: LaunchRequest, actor: Person | None) -> Container:
    """Ask for a new container; return its row. Nothing is written when it is refused.

    The same `request_key` twice gives the same container. Raise any RefusedError of the
    pre-flight list.
    """
    ensure_identity(person=request.owner)
    if earlier := _find_same_request(request):
        return earlier
    for finding in preflight.check_launch(request=request, only=preflight.BEFORE_LAUNCH):
        if finding.error is not None:
            raise finding.error
    try:
        with transaction.atomic(durable=True):
            return _write_launch(request, actor)
    except IntegrityError:
        # A twin of this request, or of its name, was faster: tell which.
        if earlier := _find_same_request(request):
            return earlier
        preflight.ensure_name_is_new(request.name, engine_name(request.name, request.owner))
        raise


def _find_same_request(request: LaunchRequest) -> Container | None:
    if not request.request_key:
        return None
    return Container.objects.filter(request_key=request.request_key, owner=request.owner).first()


def _write_launch(request: LaunchRequest, actor: Person | None) -> Container:
    # The owner's row makes two launches of one person wait for each other: quotas hold.
    owner = Person.objects.select_for_update(no_key=True).get(pk=request.owner.pk)
    limits = resolve_limits(person=owner)
    full_name = engine_name(request.name, owner)
    lock_image(image=request.image, owner=owner)
    preflight.ensure_name_is_new(request.name, full_name)
    preflight.check_container_count(request=request, limits=limits)
    size, notes = choose_size(request=request, limits=limits, machine=Machine.current())
    preflight.check_totals(limits=limits, owner=owner, size=size)
    container = Container.objects.create(
        owner=owner,
        name=request.name,
        engine_name=full_name,
        image=request.image,
        image_reference=request.reference,
        framework=request.framework,
        version=request.version,
        architecture=request.architecture,
        devices_requested=request.device_count,
        spec={
            **size,
            "workspace": request.workspace,
            "network": network_name(owner),
            "devices": [],
        },
        notes=notes,
        data=request.data,
        models_folder=request.models,
        request_key=request.request_key or None,
    )
    if request.device_count:
        _reserve(container, limits, request.device_count, request.device_uuids, actor)
    _ask(container, "launch", actor)
    return container


def _reserve(
    container: Container,
    limits: EffectiveLimits,
    count: int,
    uuids: tuple[str, ...],
    actor: Person | None,
) -> None:
    devices = assignments.reserve_devices(
        container=container,
        count=count,
        uuids=uuids,
        limits=limits,
        actor=actor,
    )
    container.spec = {**container.spec, "devices": [device.uuid for device in devices]}
    container.simulated = any(device.simulated for device in devices)
    container.save(update_fields=["spec", "simulated"])


def _ask(container: Container, verb: str, actor: Person | None, **params: Any) -> Operation:
    operation = request_operation(
        kind=verb, owner=container.owner, actor=actor, params=params, **container.subject
    )
    record_event(
        verb=verb,
        **container.subject,
        owner=container.owner,
        actor=actor,
        after={"state": container.state},
        reason=params.get("reason", ""),
    )
    announce_update(
        subject=f"container:{container.pk}",
        owner_id=container.owner_id,
        state=container.state,
        operation=verb,
    )
    return operation


def _change(
    container: Container, verb: str, actor: Person | None, **params: Any
) -> Operation | None:
    """Move the state by compare-and-set and ask for the operation; refuse illegal verbs."""
    allowed, target = Container.TRANSITIONS[verb]
    rows = Container.objects.filter(pk=container.pk, state__in=allowed)
    try:
        with transaction.atomic(durable=True):
            changed = rows.update(state=target)
            container.refresh_from_db()
            if not changed:
                return _explain_refusal(container, verb, target)
            if verb == "start":
                _ensure_devices(container, actor)
            return _ask(container, verb, actor, **params)
    except RefusedError:
        container.refresh_from_db()  # the row was rolled back; so is what the caller shows
        raise


def _explain_refusal(container: Container, verb: str, target: str) -> Operation | None:
    """Return the operation when the same verb is under way; else raise."""
    operation = container.live_operation()
    if container.state == target:
        return operation
    if operation is not None and operation.is_live:
        raise Busy(
            f"{container.name} is busy: {operation.kind} is under way.",
            hint="Wait until it has ended.",
            operation=operation.kind,
            state=container.state,
        )
    verbs = container.offered_verbs()
    raise IllegalTransition(
        f"{container.name} is {container.get_state_display().lower()}; "
        f"{verb} is not possible then.",
        hint=f"Possible now: {', '.join(verbs)}." if verbs else "Nothing can be done with it.",
        state=container.state,
        verb=verb,
        allowed=list(verbs),
    )


def _ensure_devices(container: Container, actor: Person | None) -> None:
    """Keep the held devices, or reserve as many again; check what a start adds."""
    if container.owner is None or container.origin != Container.Origin.PORTAL:
        return
    Person.objects.select_for_update(no_key=True).get(pk=container.owner.pk)
    limits = resolve_limits(person=container.owner)
    preflight.check_totals(limits=limits, owner=container.owner, size=container.spec, own=container)
    held = Assignment.objects.live().filter(container=container)
    if held.exclude(device__present=True, device__usable=True).exists():
        assignments.release_devices(container=container, reason="the device is gone or not usable")
    if held.exists():
        held.update(hold_until=None)
    elif container.devices_requested:
        free = set(container.spec.get("devices", []))
        same = tuple(sorted(free)) if _all_free(free) else ()
        _reserve(container, limits, container.devices_requested, same, actor)


def _all_free(uuids: set[str]) -> bool:
    return bool(uuids) and Device.objects.free().filter(pk__in=uuids).count() == len(uuids)


def start_container(*, container: Container, actor: Person | None) -> Operation | None:
    """Start a stopped container; its devices are held still, or reserved again."""
    return _change(container, "start", actor)


def stop_container(
    *, container: Container, actor: Person | None, reason: str = ""
) -> Operation | None:
    """Stop a running or paused container. The GPU is held for the owner's hold time."""
    return _change(container, "stop", actor, reason=reason)


def restart_container(*, container: Container, actor: Person | None) -> Operation | None:
    """Stop and start in one go; devices stay."""
    return _change(container, "restart", actor)


def pause_container(*, container: Container, actor: Person | None) -> Operation | None:
    """Freeze a running container; it keeps memory and devices."""
    return _change(container, "pause", actor)


def resume_container(*, container: Container, actor: Person | None) -> Operation | None:
    """Let a paused container go on."""
    return _change(container, "resume", actor)


def remove_container(
    *, container: Container, actor: Person | None, reason: str = ""
) -> Operation | None:
    """Remove a container. Its workspace stays; what was installed inside is gone."""
    if _has_successor(container):
        _forget_failed(container, actor, reason)
        return None
    return _change(container, "remove", actor, reason=reason)


def _has_successor(container: Container) -> bool:
    """Tell whether a failed launch was followed by a container of the same name."""
    failed = Container.objects.filter(pk=container.pk, state=State.FAILED)
    twins = Container.objects.counted().filter(engine_name=container.engine_name)
    return failed.exists() and twins.exists()


def _forget_failed(container: Container, actor: Person | None, reason: str) -> None:
    """Remove the row alone: what the engine has under that name is the successor's."""
    with transaction.atomic(durable=True):
        rows = Container.objects.filter(pk=container.pk, state=State.FAILED)
        if rows.update(state=State.REMOVED, removed_at=timezone.now()):
            container.refresh_from_db()
            assignments.release_devices(
                container=container, reason="the container was removed", actor=actor
            )
            record_event(
                verb="removed",
                **container.subject,
                owner=container.owner,
                actor=actor,
                after={"state": State.REMOVED},
                reason=reason,
            )
            observations.announce(container)


def cancel_launch(*, container: Container, actor: Person | None) -> bool:
    """Cancel what is under way; return False when there is nothing to cancel."""
    operation = container.live_operation()
    if operation is None or operation.kind != "launch":
        return False
    with transaction.atomic(durable=True):
        asked = cancel_operation(operation=operation, actor=actor)
        if asked:
            record_event(verb="cancel", **container.subject, owner=container.owner, actor=actor)
    return asked


VERBS = {
    "start": start_container,
    "stop": stop_container,
    "restart": restart_container,
    "pause": pause_container,
    "resume": resume_container,
    "remove": remove_container,
}
