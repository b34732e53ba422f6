"""What sizes the launch page offers, and why it does not offer the others."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ds01portal.limits import UNLIMITED, Special, format_bytes
from workspaces.models import Machine
from workspaces.views.bars import Usage
from workspaces.views.tiles import Board, Tile

ENOUGH = 1e-9  # quotas of MIG slices are sevenths: sums are not exact


@dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """A button that picks so many devices. `reason` says why it cannot be pressed."""

    count: int
    label: str
    reason: str
    pressed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class SizeHint:
    """What memory and cores are left to choose from, in words, and the values taken by default."""

    cpus: str
    memory: str
    default_cpus: str
    default_memory: str


def offer_tiles(board: Board, usage: Usage, picked: set[str]) -> list[Tile]:
    """Make every device a checkbox; those that cannot be picked say why."""
    for unit in board.units:
        unit.select_name = "device"
        unit.selected = unit.device.uuid in picked
        reason = refuse_unit(unit, usage)
        unit.disabled = bool(reason)
        unit.reason = unit.reason or reason
        unit.detail = ""
        if unit.disabled:
            # On this page a device of one's own is as little to be had as any other taken one.
            unit.state = "taken" if unit.state == "mine" else unit.state
            unit.selected = False
    return board.tiles


def refuse_unit(unit: Tile, usage: Usage) -> str:
    """Return why a device cannot be picked now; empty when it can."""
    if unit.state == "mine":
        return _("In use by your container.")
    if unit.state == "taken":
        return unit.reason or _("In use by somebody else.")
    if unit.state != "free":
        return unit.reason or _("Out of service.")
    if usage.left("devices_per_container") < 1:
        return _("Your limits allow no GPU.")
    left = usage.left("gpueq")
    if unit.device.gpueq > left + ENOUGH:
        words = {"weight": _plain(unit.device.gpueq), "left": _plain(left)}
        if left <= ENOUGH:
            return _("It counts as %(weight)s GPU; your limit leaves none.") % words
        return _("It counts as %(weight)s GPU; your limit leaves %(left)s.") % words
    return ""


def offer_presets(board: Board, usage: Usage, picked: int) -> list[Preset]:
    """Return CPU only, 1 GPU, 2 GPUs and so on, with the reason where one is not possible."""
    per_container = usage.left("devices_per_container")
    most = int(min(max(per_container, 2), 4, max(len(board.units), 0)))
    presets = [Preset(count=0, label=_("CPU only"), reason="", pressed=picked == 0)]
    for count in range(1, most + 1):
        label = ngettext("%(count)d GPU", "%(count)d GPUs", count) % {"count": count}
        reason = _refuse_count(count, board, usage)
        presets.append(Preset(count=count, label=label, reason=reason, pressed=picked == count))
    return presets


def _refuse_count(count: int, board: Board, usage: Usage) -> str:
    if count > usage.left("devices_per_container"):
        allowed = int(usage.left("devices_per_container"))
        return _("your limit is %(count)d for each container") % {"count": allowed}
    free = [unit.device.gpueq for unit in board.units if unit.state == "free"]
    if len(free) < count:
        return ngettext("only %(count)d is free", "only %(count)d are free", len(free)) % {
            "count": len(free)
        }
    left = usage.left("gpueq")
    # The button takes the first that can be picked, as they stand.
    pickable = [weight for weight in free if weight <= left + ENOUGH]
    if len(pickable) >= count and sum(pickable[:count]) <= left + ENOUGH:
        return ""
    if sum(sorted(free)[:count]) <= left + ENOUGH:
        return _("your limit is %(left)s more; pick slices that fit below") % {"left": _plain(left)}
    if left <= ENOUGH:
        return _("your limit leaves none")
    return _("your limit is %(left)s more") % {"left": _plain(left)}


def size_hint(usage: Usage, machine: Machine) -> SizeHint:
    """Return what a container may have: limit, machine, and what all containers together leave."""
    cores = _upper(usage, "cpus", float(machine.cpus))
    memory = _upper(usage, "memory", float(machine.memory_bytes))
    return SizeHint(
        cpus=_words(usage, "cpus", "total_cpus", _plain, float(machine.cpus)),
        memory=_words(usage, "memory", "total_memory", _size, float(machine.memory_bytes)),
        default_cpus=_plain(cores) if cores != float("inf") else _("all"),
        default_memory=_size(memory) if memory != float("inf") else _("all"),
    )


def _upper(usage: Usage, name: str, there: float) -> float:
    limit = usage.limits.value(name)
    bound = float("inf") if limit is UNLIMITED else 0.0
    if not isinstance(limit, Special):
        bound = float(limit)
    return min(bound, there or bound)


def _words(usage: Usage, name: str, total: str, show: object, there: float) -> str:
    assert callable(show)
    limit = usage.limits.value(name)
    parts = []
    if limit is UNLIMITED:
        parts.append(_("no limit for one container"))
    else:
        allowed = 0.0 if isinstance(limit, Special) else float(limit)
        parts.append(_("up to %(limit)s for one container") % {"limit": show(allowed)})
    left = usage.left(total)
    if left != float("inf"):
        parts.append(_("%(left)s left for all of yours") % {"left": show(left)})
    if there:
        parts.append(_("this machine has %(there)s") % {"there": show(there)})
    return ", ".join(parts)


def _plain(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _size(value: float) -> str:
    return format_bytes(int(value))
