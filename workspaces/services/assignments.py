"""Reserve, bind, hold and release devices.

Occupancy is read from assignment rows and from what foreign containers were seen to use,
never from counters. Not in charge of: the engine, and when a container stops.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from itertools import pairwise

from django.db import IntegrityError, transaction
from django.db.models import Sum
from django.utils import timezone

from ds01portal.exceptions import InvalidInput, NoFreeDevice
from ds01portal.limits import UNLIMITED, Special, allows
from ds01portal.models import Person
from ds01portal.services.events import announce_update, record_event
from ds01portal.services.quotas import EffectiveLimits, check_limit, resolve_limits
from workspaces.models import Assignment, Container, Device, ForeignUse

State = Assignment.State
ROUNDING = 1e-9  # sevenths do not add up exactly
# In these a container uses no device, so a hold may end.
IDLE_STATES = (Container.State.STOPPED, Container.State.CREATED)


def used_gpueq(*, owner: Person) -> float:
    """Return the GPU-equivalents that a person holds, their foreign containers included."""
    held = Assignment.objects.live().filter(container__owner=owner)
    foreign = ForeignUse.objects.filter(container__owner=owner)
    devices = Device.objects.filter(pk__in=held.values("device"))
    others = Device.objects.filter(pk__in=foreign.values("device")).exclude(
        pk__in=held.values("device")
    )
    totals = [rows.aggregate(total=Sum("gpueq"))["total"] or 0.0 for rows in (devices, others)]
    return float(sum(totals))


def reserve_devices(
    *,
    container: Container,
    count: int,
    uuids: Sequence[str] = (),
    limits: EffectiveLimits,
    actor: Person | None,
) -> list[Device]:
    """Reserve `count` devices, or exactly `uuids`, all or nothing.

    Call it inside the transaction that makes the request. Raise QuotaExceeded when the owner's
    limits do not allow it, NoFreeDevice when the machine is full: two different refusals.
    """
    count = len(uuids) or count
    if count <= 0:
        return []
    # Everybody who reserves takes these rows in one order: the check and the choice are serial.
    offered = list(Device.objects.offered().select_for_update(no_key=True).order_by("uuid"))
    free = list(Device.objects.free())
    assert container.owner is not None
    check_device_quota(
        owner=container.owner, count=count, uuids=uuids, limits=limits, offered=offered
    )
    chosen = _pick_named(uuids, free) if uuids else _pick_any(container, count, limits, free)
    _write_assignments(container, chosen)
    record_event(
        verb="reserve",
        **container.subject,
        owner=container.owner,
        actor=actor,
        after={"devices": [device.uuid for device in chosen]},
    )
    announce_update(subject="machine", owner_id=None)
    return chosen


def check_device_quota(
    *,
    owner: Person,
    count: int,
    uuids: Sequence[str],
    limits: EffectiveLimits,
    offered: Sequence[Device],
) -> None:
    """Raise QuotaExceeded when the limits do not allow that many, or exactly those, devices.

    Without names the lightest devices decide: who may have a MIG instance is not refused for
    the weight of a whole GPU. A machine without that many is full, not a matter of quota.
    """
    check_limit(limits=limits, name="devices_per_container", used=0, requested=count)
    named = [device.gpueq for device in offered if device.uuid in uuids]
    least = sum(named or sorted(device.gpueq for device in offered)[:count]) or float(count)
    used = used_gpueq(owner=owner)
    if not allows(limits.value("gpueq"), used + least):
        # In the words of who asked: one GPU is one, whatever the lightest slice weighs.
        asked = least if named else max(least, float(count))
        check_limit(limits=limits, name="gpueq", used=used, requested=asked)


def _pick_named(uuids: Sequence[str], free: list[Device]) -> list[Device]:
    if len(set(uuids)) != len(uuids):
        raise InvalidInput(
            "The same device is named twice.", hint="Name each device once.", field="devices"
        )
    by_uuid = {device.uuid: device for device in free}
    missing = [one for one in uuids if one not in by_uuid]
    if missing:
        labels = dict(Device.objects.filter(pk__in=missing).values_list("uuid", "index"))
        names = ", ".join(f"GPU {labels[one]}" if one in labels else one for one in missing)
        raise NoFreeDevice(
            f"{names} is not free.",
            hint="Pick another device, or let the portal choose.",
            free=len(free),
            requested=len(uuids),
        )
    return [by_uuid[one] for one in uuids]


def _pick_any(
    container: Container, count: int, limits: EffectiveLimits, free: list[Device]
) -> list[Device]:
    """Take whole GPUs before MIG instances, in numeric order, as far as the quota carries."""
    assert container.owner is not None
    limit = limits.value("gpueq")
    left = float("inf") if isinstance(limit, Special) else limit - used_gpueq(owner=container.owner)
    chosen = _fill(sorted(free, key=lambda row: (row.kind, row.order)), count, left + ROUNDING)
    if len(chosen) < count:
        smallest = sorted(free, key=lambda row: row.gpueq)
        most = [n for n in range(len(free) + 1) if _weigh(smallest[:n]) <= left + ROUNDING][-1]
        what = "device" if most == 1 else "devices"
        where = "" if most == len(free) else " within your limit"
        raise NoFreeDevice(
            f"{most} {what}{where} {'is' if most == 1 else 'are'} free now, {count} asked for.",
            hint="Ask for fewer, start without a GPU, or try again when one is free.",
            free=most,
            requested=count,
        )
    return chosen


def _fill(devices: list[Device], count: int, left: float) -> list[Device]:
    """Take each device in turn after which the rest still fits into what is left."""
    chosen: list[Device] = []
    for position, device in enumerate(devices):
        missing = count - len(chosen) - 1
        if missing < 0:
            break
        if any(_exclude_each_other(device, other) for other in chosen):
            continue
        rest = sorted(devices[position + 1 :], key=lambda row: row.gpueq)[:missing]
        if len(rest) == missing and device.gpueq + _weigh(rest) <= left:
            chosen.append(device)
            left -= device.gpueq
    return chosen


def _weigh(devices: Sequence[Device]) -> float:
    return sum(device.gpueq for device in devices)


def _exclude_each_other(one: Device, other: Device) -> bool:
    return one.card_uuid == other.card_uuid and one.kind != other.kind


def _write_assignments(container: Container, devices: list[Device]) -> None:
    now = timezone.now()
    try:
        with transaction.atomic():
            for device in devices:
                Assignment.objects.create(device=device, container=container, reserved_at=now)
    except IntegrityError as error:
        raise NoFreeDevice(
            "Somebody was faster: a device was taken just now.",
            hint="Try again.",
            free=0,
            requested=len(devices),
        ) from error


def bind_devices(*, container: Container) -> None:
    """Note that the container exists with its reserved devices."""
    Assignment.objects.filter(container=container, state=State.RESERVED).update(
        state=State.BOUND, bound_at=timezone.now()
    )
    Assignment.objects.live().filter(container=container).update(hold_until=None)


def release_devices(*, container: Container, reason: str, actor: Person | None = None) -> list[str]:
    """Free all devices of a container; return their UUIDs. Nothing held is success."""
    held = Assignment.objects.live().filter(container=container)
    uuids = list(held.values_list("device_id", flat=True))
    if not uuids:
        return []
    with transaction.atomic():
        held.update(state=State.RELEASED, released_at=timezone.now(), release_reason=reason)
        record_event(
            verb="release",
            **container.subject,
            owner=container.owner,
            actor=actor,
            before={"devices": uuids},
            reason=reason,
        )
        announce_update(subject="machine", owner_id=None)
    return uuids


def hold_devices(*, container: Container, now: dt.datetime | None = None) -> None:
    """Start the hold time of a stopped container's devices; zero frees them at once."""
    if container.owner is None:
        return
    hold = resolve_limits(person=container.owner).value("gpu_hold")
    if hold is UNLIMITED:
        return
    seconds = 0 if isinstance(hold, Special) else hold
    until = (now or timezone.now()) + dt.timedelta(seconds=seconds)
    Assignment.objects.live().filter(container=container).update(hold_until=until)
    if seconds == 0:
        release_devices(container=container, reason="stopped; GPUs are not held after a stop")


def release_expired_holds(*, now: dt.datetime | None = None) -> int:
    """Free the devices of stopped containers whose hold time has passed; return how many."""
    moment = now or timezone.now()
    expired = Assignment.objects.expired(moment).filter(container__state__in=IDLE_STATES)
    found = set(expired.values_list("container", flat=True))
    return sum(len(release_expired_hold(container_id=one, now=moment)) for one in found)


def release_expired_hold(*, container_id: uuid.UUID, now: dt.datetime) -> list[str]:
    """Free the devices of one container unless a start has come meanwhile; return UUIDs."""
    with transaction.atomic():
        rows = Container.objects.select_for_update(of=("self",), no_key=True).select_related(
            "owner"
        )
        container = rows.filter(pk=container_id, state__in=IDLE_STATES).first()
        if container is None:
            return []
        if not Assignment.objects.expired(now).filter(container=container).exists():
            return []
        return release_devices(container=container, reason="the hold time after the stop is over")


def held_devices(*, container: Container) -> list[Device]:
    """Return the devices a container holds, in numeric order."""
    rows = Assignment.objects.live().filter(container=container).select_related("device")
    return sorted((row.device for row in rows), key=lambda device: device.order)


def find_double_holds() -> list[str]:
    """Return what must never be: a device held twice, or a card beside its own instance."""
    rows = list(Assignment.objects.live().select_related("device").order_by("device"))
    twice = [one.device_id for one, two in pairwise(rows) if one.device_id == two.device_id]
    cards = {row.device_id for row in rows if row.device.parent_id is None}
    beside = [row.device_id for row in rows if row.device.parent_id in cards]
    return [*twice, *beside]


__all__ = [
    "bind_devices",
    "check_device_quota",
    "find_double_holds",
    "held_devices",
    "hold_devices",
    "release_devices",
    "release_expired_hold",
    "release_expired_holds",
    "reserve_devices",
    "used_gpueq",
]
