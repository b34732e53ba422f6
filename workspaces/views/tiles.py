"""Devices as tiles: who holds what, in words that who looks may read. Three queries in all.

Not in charge of: giving devices out; that a tile says free is a view of a moment.
"""

from __future__ import annotations

import datetime as dt
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ds01portal.limits import format_bytes
from ds01portal.models import Person
from workspaces.models import Assignment, Container, Device, ForeignUse

FORGOTTEN_AFTER = dt.timedelta(days=7)  # a device that vanished longer ago is not shown


def model_words(device: Device) -> str:
    """Return "A100 40 GB" or "H100 80 GB · 3g.40gb": a model without its maker's prefixes."""
    name = re.sub(r"^(NVIDIA|Tesla)\s+", "", device.model)
    name = re.sub(r"[-\s](\d+)\s?GB\b", r" \1 GB", name).replace("-", " ")
    if "GB" not in name and device.memory_bytes:
        name = f"{name} {format_bytes(device.memory_bytes)}"
    return f"{name} · {device.profile}" if device.profile else name


@dataclass(kw_only=True, slots=True)
class Tile:
    """One device. `state` is free, mine, taken, draining, unusable or split (a card in slices)."""

    device: Device
    state: str
    state_label: str
    holder: str = ""
    until: dt.datetime | None = None
    reason: str = ""
    detail: str = ""
    fraction: float | None = None
    fraction_text: str = ""
    slices: list[Tile] = field(default_factory=list)
    select_name: str = ""
    selected: bool = False
    disabled: bool = False

    @property
    def name(self) -> str:
        """Number for people."""
        return self.device.label

    @property
    def short(self) -> str:
        """Number alone, for the smallest tiles."""
        return self.device.slot

    @property
    def model(self) -> str:
        """Model for people."""
        return model_words(self.device)

    @property
    def select_value(self) -> str:
        """What a form sends for it."""
        return self.device.uuid


@dataclass(kw_only=True, slots=True)
class Board:
    """All devices of the machine: `tiles` are cards with their slices inside."""

    tiles: list[Tile]

    @property
    def units(self) -> list[Tile]:
        """What can be given out: cards that are whole, and slices."""
        found = []
        for tile in self.tiles:
            found += tile.slices or ([tile] if tile.state != "split" else [])
        return found

    def count(self, *states: str) -> int:
        """Return how many units are in one of these states."""
        return sum(unit.state in states for unit in self.units)

    @property
    def next_free(self) -> dt.datetime | None:
        """Return when the first held device is let go, as far as that is known."""
        return min((unit.until for unit in self.units if unit.until), default=None)

    @property
    def answer(self) -> str:
        """Say in a sentence how full the machine is."""
        total, free = len(self.units), self.count("free")
        if not total:
            return _("this machine offers no GPUs")
        if not free:
            return _("every GPU is taken")
        return ngettext(
            "%(free)d of %(total)d GPU is free", "%(free)d of %(total)d GPUs are free", total
        ) % {"free": free, "total": total}


@dataclass(slots=True)
class _Holds:
    """Who holds what, by UUID."""

    held: dict[str, Assignment]
    foreign: dict[str, ForeignUse]
    children: dict[str, list[str]]

    def taken(self, uuid: str) -> bool:
        return uuid in self.held or uuid in self.foreign


def load_board(*, viewer: Person) -> Board:
    """Read all devices and who holds them, as `viewer` may see it."""
    now = timezone.now()
    devices = [
        device
        for device in Device.objects.all()
        if device.present or now - device.seen_at < FORGOTTEN_AFTER
    ]
    rows = Assignment.objects.live().select_related("container__owner")
    uses = ForeignUse.objects.select_related("container__owner")
    children: dict[str, list[str]] = defaultdict(list)
    for device in devices:
        if device.parent_id:
            children[device.parent_id].append(device.uuid)
    holds = _Holds(
        {row.device_id: row for row in rows}, {use.device_id: use for use in uses}, children
    )
    tiles = {device.uuid: _make_tile(device, holds, viewer) for device in devices}
    ordered = sorted(devices, key=lambda one: one.order)
    for device in ordered:
        if device.parent_id in tiles and device.parent_id:
            tiles[device.parent_id].slices.append(tiles[device.uuid])
    outermost = [one for one in ordered if one.parent_id not in tiles]
    return Board(tiles=[tiles[one.uuid] for one in outermost])


def _make_tile(device: Device, holds: _Holds, viewer: Person) -> Tile:
    if device.uuid in holds.held:
        assignment = holds.held[device.uuid]
        return _held_tile(device, assignment.container, assignment.hold_until, viewer)
    if device.uuid in holds.foreign:
        use = holds.foreign[device.uuid]
        if use.container is not None:
            return _held_tile(device, use.container, None, viewer)
        name = use.engine_name if viewer.is_staff else ""
        return Tile(device=device, state="taken", state_label=_("taken"), holder=name)
    return _unheld_tile(device, holds)


def _held_tile(
    device: Device, container: Container, until: dt.datetime | None, viewer: Person
) -> Tile:
    mine = container.owner_id == viewer.pk
    owner = container.owner.username if container.owner else _("unknown")
    holder = container.name if mine else f"{owner} · {container.name}" if viewer.is_staff else ""
    tile = Tile(
        device=device,
        state="mine" if mine else "taken",
        state_label=_("mine") if mine else _("taken"),
        holder=holder,
        until=until,
        detail=_("held after the stop") if until else "",
    )
    tile.reason = _trouble(device)[1]
    return tile


def _unheld_tile(device: Device, holds: _Holds) -> Tile:
    children = holds.children.get(device.uuid, [])
    if children:
        return Tile(device=device, state="split", state_label=_("in slices"))
    state, reason = _trouble(device)
    if state:
        label = _("drained") if state == "draining" else _("not usable")
        return Tile(device=device, state=state, state_label=label, reason=reason)
    if device.parent_id and holds.taken(device.parent_id):
        reason = _("Its whole card is in use.")
        return Tile(device=device, state="taken", state_label=_("taken"), reason=reason)
    return Tile(device=device, state="free", state_label=_("free"))


def _trouble(device: Device) -> tuple[str, str]:
    """Return the state and reason of a device that is not given out; empty when it is."""
    if not device.present:
        return "unusable", _("The machine does not show it any more.")
    if not device.usable:
        return "unusable", device.unusable_reason
    if device.drained:
        reason = device.drain_reason or _("An admin has taken it out for now.")
        return "draining", reason
    return "", ""


def describe_devices(devices: Iterable[Device]) -> str:
    """Return "2 × A100 40 GB (GPU 0, GPU 1)", models after each other."""
    groups: dict[str, list[str]] = defaultdict(list)
    for device in devices:
        groups[model_words(device)].append(device.label)
    return ", ".join(
        f"{len(labels)} × {model} ({', '.join(labels)})" for model, labels in groups.items()
    )
