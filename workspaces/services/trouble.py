"""What is wrong now, worst first, for the admin's front page. Reads only; calls no engine."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from django.conf import settings
from django.db.models import Max, Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from catalog.services.engine_facts import known_escapes
from catalog.services.image_quota import disk_alarm
from ds01portal.limits import format_bytes
from ds01portal.models import Operation
from workspaces.models import Assignment, Container, Device, Machine
from workspaces.services.assignments import find_double_holds
from workspaces.services.machine import free_disk_bytes, is_worker_alive

LONG = dt.timedelta(minutes=5)  # no transient state should last longer
LATELY = dt.timedelta(hours=24)
FORGOTTEN = dt.timedelta(days=7)  # a device that is gone that long was taken out on purpose
SHOWN = 5  # lines of one kind


@dataclass(frozen=True, kw_only=True, slots=True)
class Trouble:
    """One line. `level` is error or warning; subject says which page shows more."""

    level: str
    text: str
    since: dt.datetime | None = None
    subject_kind: str = ""  # container | device | machine | image
    subject_id: str = ""


def find_trouble(*, now: dt.datetime | None = None) -> list[Trouble]:
    """Return everything that needs an admin, worst first; empty when all is fine."""
    moment = now or timezone.now()
    machine = Machine.current()
    found = [
        *_machine_trouble(machine),
        *_image_disk_trouble(moment),
        *_known_escapes(),
        *_double_holds(),
        *_stuck_containers(moment),
        *_device_trouble(moment),
        *_failed_operations(moment),
    ]
    return sorted(found, key=lambda one: one.level != "error")


def _machine_trouble(machine: Machine) -> Iterator[Trouble]:
    if not machine.reachable:
        text = _("Docker Engine does not answer. No container was changed by that.")
        yield Trouble(
            level="error",
            text=f"{text} {machine.error}".strip(),
            since=machine.unreachable_since,
            subject_kind="machine",
        )
    if not is_worker_alive(machine):
        text = _("No worker is running: what people ask for waits. Start run_worker.")
        yield Trouble(
            level="error", text=text, since=machine.worker_seen_at, subject_kind="machine"
        )
    free, floor = free_disk_bytes(machine), int(settings.DS01_DISK_FLOOR)
    if free is not None and free < floor:
        text = _("The engine's disk is nearly full: %(free)s are free, %(floor)s is the floor.")
        words = {"free": format_bytes(free), "floor": format_bytes(floor)}
        yield Trouble(level="error", text=text % words, subject_kind="machine")


def _image_disk_trouble(now: dt.datetime) -> Iterator[Trouble]:
    alarm = disk_alarm(now=now)
    if alarm is None:
        return
    words = {
        "percent": alarm.used_percent,
        "free": format_bytes(alarm.free_bytes),
        "folder": alarm.folder,
    }
    if alarm.blocks:
        text = _("No image is built: %(free)s are free in %(folder)s. Run prune_images.") % words
    else:
        text = _("%(folder)s is %(percent)s %% full; %(free)s are free. Run prune_images.") % words
    yield Trouble(level="error" if alarm.blocks else "warning", text=text, subject_kind="machine")


def _known_escapes() -> Iterator[Trouble]:
    for escape in known_escapes():
        text = _("%(component)s %(version)s lets people out of containers (%(advisory)s).") % {
            "component": escape.component,
            "version": escape.version,
            "advisory": escape.advisory,
        }
        if escape.packaged:
            text += " " + _("Your distribution may have mended it under this number; look it up.")
        else:
            text += " " + _("Upgrade to %(fixed)s.") % {"fixed": escape.fixed_in}
        yield Trouble(level="warning", text=text, subject_kind="machine")


def _double_holds() -> Iterator[Trouble]:
    for uuid in find_double_holds():
        text = _("%(device)s is held twice. Stop one of the containers.") % {"device": uuid}
        yield Trouble(level="error", text=text, subject_kind="device", subject_id=uuid)


def _stuck_containers(now: dt.datetime) -> Iterator[Trouble]:
    busy = list(
        Container.objects.filter(state__in=Container.TRANSIENT_STATES).select_related("owner")
    )
    asked = dict(
        Operation.objects.filter(
            subject_kind="container", subject_id__in=[str(row.pk) for row in busy]
        )
        .values_list("subject_id")
        .annotate(last=Max("created_at"))
    )
    for row in busy:
        since = asked.get(str(row.pk), row.created_at)
        if now - since > LONG:
            text = _("%(name)s has been %(state)s for more than five minutes.") % {
                "name": row.engine_name,
                "state": row.get_state_display().lower(),
            }
            yield _about(row, text, since)


def _about(row: Container, text: str, since: dt.datetime) -> Trouble:
    return Trouble(
        level="warning",
        text=text,
        since=since,
        subject_kind="container",
        subject_id=str(row.pk),
    )


def _device_trouble(now: dt.datetime) -> Iterator[Trouble]:
    held = Assignment.objects.live().values("device")
    gone = Q(present=False) & (Q(seen_at__gte=now - FORGOTTEN) | Q(pk__in=held))
    # A card that is split gives out its instances in its place: that is no trouble.
    broken = Q(present=True, usable=False) & ~Q(unusable_reason__startswith="split into MIG")
    for device in Device.objects.filter(gone | broken):
        words = {"device": str(device), "reason": device.unusable_reason}
        if device.present:
            text = _("%(device)s is not usable: %(reason)s") % words
        else:
            text = _("%(device)s is gone: the inventory does not show it any more.") % words
        yield Trouble(
            level="warning",
            text=text,
            since=device.seen_at,
            subject_kind="device",
            subject_id=device.uuid,
        )


def _failed_operations(now: dt.datetime) -> Iterator[Trouble]:
    failed = Operation.objects.filter(
        state=Operation.State.FAILED, finished_at__gte=now - LATELY
    ).order_by("-finished_at")
    rows = list(failed[: SHOWN + 1])
    for row in rows[:SHOWN]:
        text = _("%(verb)s of %(name)s failed: %(message)s") % {
            "verb": row.kind,
            "name": row.subject_label or row.subject_id,
            "message": row.error.get("message", ""),
        }
        yield Trouble(
            level="warning",
            text=text,
            since=row.finished_at,
            subject_kind=row.subject_kind,
            subject_id=row.subject_id,
        )
    if len(rows) > SHOWN:
        count = failed.count() - SHOWN
        text = ngettext(
            "%(count)d more operation failed in the last 24 hours.",
            "%(count)d more operations failed in the last 24 hours.",
            count,
        )
        yield Trouble(level="warning", text=text % {"count": count})
