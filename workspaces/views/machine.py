"""The machine's page and the page of one's limits."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_safe

from catalog.services.image_quota import read_image_quota
from ds01portal.limits import format_bytes
from ds01portal.models import Person
from workspaces.models import Machine
from workspaces.services.machine import is_worker_alive
from workspaces.services.usage import HostUsage, read_device_usage, read_host_usage
from workspaces.views.bars import (
    COUNTED,
    IMAGES,
    PER_CONTAINER,
    TIMES,
    WORDS,
    LimitBar,
    load_usage,
    make_bar,
    plain_bar,
)
from workspaces.views.common import contact, members_only, signed_in
from workspaces.views.tiles import Board, load_board


@require_safe
@members_only
def machine_view(request: HttpRequest) -> HttpResponse:
    """Show every device with its holder, and what the host has."""
    person = signed_in(request)
    machine = Machine.current()
    board = load_board(viewer=person)
    add_device_usage(board)
    context = {
        "machine": machine,
        "board": board,
        "answer": machine_answer(board),
        "host_bars": host_bars(machine, read_host_usage(machine=machine)),
        "worker_alive": is_worker_alive(machine),
    }
    return render(request, "workspaces/machine.html", context)


def add_device_usage(board: Board) -> None:
    """Put what each device does on its tile; what cannot be read is left out."""
    found = read_device_usage([tile.device.uuid for tile in board.units])
    for tile in board.units:
        usage = found.get(tile.device.uuid)
        if usage is not None and usage.gpu_percent is not None:
            tile.fraction = usage.gpu_percent / 100
            tile.fraction_text = _("%(percent)d %% busy") % {"percent": usage.gpu_percent}


def machine_answer(board: Board) -> str:
    """Say first what people come for."""
    parts = [board.answer]
    mine, out = board.count("mine"), board.count("draining", "unusable")
    if mine:
        parts.append(ngettext("%(count)d is yours", "%(count)d are yours", mine) % {"count": mine})
    if out:
        parts.append(
            ngettext("%(count)d is out of service", "%(count)d are out of service", out)
            % {"count": out}
        )
    sentence = " · ".join(parts)
    return sentence[:1].upper() + sentence[1:]


def host_bars(machine: Machine, host: HostUsage) -> list[LimitBar]:
    """Return cores, memory and disk of the machine; what is not known says so."""
    cpus, memory = machine.cpus, machine.memory_bytes or host.memory_total
    rows: list[tuple[str, str, float | None, float | None]] = []
    load = None if host.load is None else round(host.load, 1)
    cores = _("%(cores)d cores") % {"cores": cpus}
    if load is not None and cpus:
        cores = _("load %(load)s on %(cores)d cores") % {"load": load, "cores": cpus}
    rows.append((_("CPU"), cores, load, cpus))
    rows.append((_("Memory"), _of(host.memory_used, memory), host.memory_used, memory))
    used = None
    if host.disk_total is not None and host.disk_free is not None:
        used = host.disk_total - host.disk_free
    rows.append((_("Disk"), _of(used, host.disk_total), used, host.disk_total))
    return [plain_bar(*row) for row in rows]


def _of(used: int | None, total: int | None) -> str:
    if not total:
        return _("unknown")
    if used is None:
        return format_bytes(total)
    return _("%(used)s of %(limit)s") % {"used": format_bytes(used), "limit": format_bytes(total)}


@require_safe
@members_only
def limits_view(request: HttpRequest) -> HttpResponse:
    """Show each limit of the person: used, allowed, and where it comes from."""
    person = signed_in(request)
    context = limits_context(person)
    return render(request, "workspaces/limits.html", context)


def limits_context(person: Person) -> dict[str, Any]:
    """Return the limits in groups, the counted ones first."""
    usage = load_usage(person=person)
    images = read_image_quota(owner=person)
    usage.used.update(images=images.images, disk=images.bytes)
    bars = {name: make_bar(name, usage) for name in WORDS}

    def rows(names: tuple[str, ...] | list[str]) -> list[LimitBar]:
        return [bars[name] for name in names]

    return {
        "counted": rows(COUNTED),
        "images": rows(IMAGES),
        "tables": [
            {"title": _("Each container"), "rows": rows(PER_CONTAINER)},
            {"title": _("Times"), "rows": rows(TIMES)},
        ],
        "group": usage.limits.group,
        "contact": contact(),
        "answer": limits_answer(bars),
    }


def limits_answer(bars: dict[str, LimitBar]) -> str:
    """Say first how much is in use."""
    return _("GPUs %(gpus)s · containers %(containers)s") % {
        "gpus": bars["gpueq"].text,
        "containers": bars["containers"].text,
    }
