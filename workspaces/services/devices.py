"""Keep the device rows true to the inventory; drain and undrain.

A device that is not seen any more is not offered; its rows and assignments stay. Not in
charge of: who holds what.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from catalog.services.hosts import record_host_facts
from ds01portal.exceptions import EngineError
from ds01portal.models import Person
from ds01portal.services.events import announce_update, record_event
from workspaces.gpus import get_inventory
from workspaces.gpus.base import DeviceInfo, DeviceUsage, Inventory, InventoryError
from workspaces.models import Device, Machine


@dataclass(kw_only=True)
class SyncReport:
    """What a sync of the inventory did, by UUID."""

    source: str
    message: str
    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    unusable: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return dict(vars(self))


def read_inventory() -> Inventory:
    """Read the inventory that the settings name; raise EngineError when it cannot be read."""
    try:
        return get_inventory(settings.DS01_GPUS).read()
    except InventoryError as error:
        raise EngineError(
            "The GPUs of this machine cannot be read now.",
            hint="Nothing was changed. An admin finds the cause in the log.",
            cause=str(error),
        ) from error


def read_device_usage(uuids: list[str]) -> dict[str, DeviceUsage]:
    """Return use by UUID; a device without a reading is left out (unknown is not idle)."""
    try:
        return get_inventory(settings.DS01_GPUS).usage(uuids)
    except InventoryError:
        return {}


def sync_devices(*, actor: Person | None = None, dry_run: bool = False) -> SyncReport:
    """Bring the device rows in line with the inventory. Raise EngineError, changing nothing."""
    inventory = read_inventory()
    report = SyncReport(source=inventory.source, message=inventory.message)
    with transaction.atomic():
        # In the order in which everybody locks devices.
        rows = Device.objects.select_for_update(no_key=True).order_by("uuid")
        known = {device.uuid: device for device in rows}
        listed = [info for info in inventory.devices if info.identified]
        # Cards before their instances: the parent's row must be there first.
        for info in sorted(listed, key=lambda row: row.parent_uuid is not None):
            _sync_one(info, known.pop(info.uuid, None), inventory, report)
        troubled = {info.uuid: info.reason for info in listed if not info.usable}
        for device in known.values():
            _note_absence(device, inventory, troubled, report, actor)
        _note_inventory(inventory)
        if report.added or report.changed or report.vanished:
            announce_update(subject="machine", owner_id=None)
        if dry_run:
            transaction.set_rollback(True)
    return report


def _sync_one(
    info: DeviceInfo, device: Device | None, inventory: Inventory, report: SyncReport
) -> None:
    values: dict[str, Any] = {
        "kind": info.kind.value,
        "parent_id": info.parent_uuid,
        "index": info.index,
        "mig_index": info.mig_index,
        "model": info.model,
        "profile": info.profile,
        "memory_bytes": info.memory_bytes,
        "gpueq": info.gpueq,
        "usable": info.usable,
        "unusable_reason": info.reason[:200],
        "present": True,
        "simulated": inventory.source == "simulated",
    }
    if not info.usable:
        report.unusable[info.uuid] = info.reason
    if device is None:
        Device.objects.create(uuid=info.uuid, seen_at=timezone.now(), **values)
        report.added.append(info.uuid)
        return
    changed = [name for name, value in values.items() if getattr(device, name) != value]
    if changed:
        report.changed.append(info.uuid)
    Device.objects.filter(pk=device.pk).update(seen_at=timezone.now(), **values)


def _note_absence(
    device: Device,
    inventory: Inventory,
    troubled: dict[str, str],
    report: SyncReport,
    actor: Person | None,
) -> None:
    """Tell a device that is gone from one that cannot be seen just now.

    A missing driver may be a driver being reloaded, and a card in trouble does not list its
    instances: those are unusable with a reason, not gone.
    """
    reason = inventory.message if inventory.driver_missing else ""
    reason = reason or troubled.get(device.parent_id or "", "")
    if reason and "split into MIG" not in reason:
        Device.objects.filter(pk=device.pk).update(usable=False, unusable_reason=reason[:200])
        report.unusable[device.uuid] = reason
    elif device.present:
        _mark_vanished(device, actor)
        report.vanished.append(device.uuid)


def _mark_vanished(device: Device, actor: Person | None) -> None:
    Device.objects.filter(pk=device.pk).update(present=False)
    record_event(
        verb="vanish",
        subject_kind="device",
        subject_id=device.uuid,
        subject_label=device.label,
        actor=actor,
        reason="the inventory does not show it any more",
    )


def _note_inventory(inventory: Inventory) -> None:
    machine = Machine.current()
    if machine.gpu_source != inventory.source:
        # What was learned with simulated devices says nothing about real ones.
        Machine.objects.filter(pk=machine.pk).update(takes_devices=None)
    Machine.objects.filter(pk=machine.pk).update(
        gpu_source=inventory.source,
        gpu_message=inventory.message[:300],
        driver_version=inventory.driver_version,
    )
    record_host_facts(
        driver_version=inventory.driver_version, cuda_version=inventory.cuda_driver_version
    )


@transaction.atomic
def drain_device(*, device: Device, reason: str, actor: Person | None) -> None:
    """Stop offering a device, a card's instances with it; whoever holds one keeps it."""
    _set_drained(device, True, reason, actor)


@transaction.atomic
def undrain_device(*, device: Device, actor: Person | None) -> None:
    """Offer a device again."""
    _set_drained(device, False, "", actor)


def _set_drained(device: Device, drained: bool, reason: str, actor: Person | None) -> None:
    rows = Device.objects.filter(Q(pk=device.pk) | Q(parent=device))
    rows.update(drained=drained, drain_reason=reason)
    record_event(
        verb="drain" if drained else "undrain",
        subject_kind="device",
        subject_id=device.uuid,
        subject_label=device.label,
        actor=actor,
        reason=reason,
    )
    announce_update(subject="machine", owner_id=None)
