"""Figures of a running container: bars on its card, charts on its page.

Both are asked again and again by the page, which hands the last reading's token back
(`since=`): a processor rate needs two readings. Nothing is stored.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from ds01portal.limits import format_bytes
from workspaces.models import Container
from workspaces.services.usage import ContainerUsage, DeviceReading, read_container_usage
from workspaces.views.bars import LimitBar, plain_bar
from workspaces.views.cards import load_cards
from workspaces.views.common import members_only, signed_in
from workspaces.views.tiles import model_words

GB = 1024**3


def read_usage_of(request: HttpRequest, pk: uuid.UUID) -> tuple[Container, ContainerUsage]:
    """Return a container that the asking person may see, and what it uses."""
    person = signed_in(request)
    rows = Container.objects.visible_to(person).select_related("owner", "image")
    container = get_object_or_404(rows, pk=pk)
    card = load_cards(containers=[container], viewer=person)[0]
    token = request.GET.get("since", "")
    return container, read_container_usage(container=container, devices=card.devices, token=token)


@require_safe
@members_only
@never_cache
def container_bars(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Show what a running container uses, as bars; nothing when it does not run."""
    container, usage = read_usage_of(request, pk)
    context = {"container": container, "usage": usage, "bars": make_bars(container, usage)}
    return render(request, "workspaces/_bars.html", context)


@require_safe
@members_only
@never_cache
def container_usage(request: HttpRequest, pk: uuid.UUID) -> JsonResponse:
    """Answer one reading for the charts. `append`: the page keeps the series itself.

    `next` is the query of the following question. Unknown is null, and the text says so.
    """
    container, usage = read_usage_of(request, pk)
    charts = [] if usage.trouble == "not-running" else make_charts(container, usage)
    return JsonResponse(
        {
            "times": [usage.read_at.timestamp()],
            "charts": charts,
            "append": True,
            "next": f"?since={usage.token}" if usage.token else "",
            "trouble": usage.trouble,
        }
    )


def cpu_limit(container: Container) -> float | None:
    """Return the cores that a container may use, if that is known."""
    cpus = container.spec.get("cpus")
    return float(cpus) if cpus else None


def memory_limit(container: Container, usage: ContainerUsage) -> int | None:
    """Return the bytes that a container may use, if that is known."""
    memory = container.spec.get("memory")
    return int(memory) if memory else usage.memory_limit_bytes


def make_charts(container: Container, usage: ContainerUsage) -> list[dict[str, Any]]:
    """Return one point for each chart."""
    limit = memory_limit(container, usage)
    used = usage.memory_bytes
    charts = [
        {
            "key": "cpu",
            "label": _("CPU"),
            "unit": "",
            "max": cpu_limit(container),
            "values": [_rounded(usage.cpu_cores)],
            "text": cpu_text(container, usage),
        },
        {
            "key": "memory",
            "label": _("Memory"),
            "unit": "GB",
            "max": limit / GB if limit else None,
            "values": [_rounded(used / GB if used is not None else None)],
            "text": memory_text(container, usage),
        },
    ]
    return charts + [_device_chart(reading) for reading in usage.devices]


def _device_chart(reading: DeviceReading) -> dict[str, Any]:
    return {
        "key": reading.device.uuid,
        "label": f"{reading.device.label} · {model_words(reading.device)}",
        "unit": "%",
        "max": 100,
        "values": [_rounded(reading.percent)],
        "text": device_text(reading),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def cpu_text(container: Container, usage: ContainerUsage) -> str:
    """Say how many cores are in use."""
    if usage.cpu_cores is None:
        return _("unknown") if usage.trouble else _("measuring")
    limit = cpu_limit(container)
    used = f"{usage.cpu_cores:.1f}"
    if limit is None:
        return _("%(used)s cores") % {"used": used}
    return _("%(used)s of %(limit)s cores") % {"used": used, "limit": f"{limit:g}"}


def memory_text(container: Container, usage: ContainerUsage) -> str:
    """Say how much memory is in use."""
    if usage.memory_bytes is None:
        return _("unknown")
    used, limit = format_bytes(usage.memory_bytes), memory_limit(container, usage)
    if not limit:
        return used
    return _("%(used)s of %(limit)s") % {"used": used, "limit": format_bytes(limit)}


def device_text(reading: DeviceReading) -> str:
    """Say how busy a device is; simulated and unreadable ones say why there is no figure."""
    if reading.percent is None:
        return _("simulated, no figures") if reading.device.simulated else _("unknown")
    return f"{reading.percent:.0f} %"


def make_bars(container: Container, usage: ContainerUsage) -> list[LimitBar]:
    """Return the bars of a card: GPUs that can be read, CPU, memory."""
    if usage.trouble == "not-running":
        return []
    limit, memory = cpu_limit(container), memory_limit(container, usage)
    cores, used = usage.cpu_cores, usage.memory_bytes
    bars = [
        plain_bar(one.device.label, device_text(one), one.percent, 100)
        for one in usage.devices
        if one.percent is not None
    ]
    bars.append(plain_bar(_("CPU"), cpu_text(container, usage), cores, limit))
    bars.append(plain_bar(_("Memory"), memory_text(container, usage), used, memory))
    return bars
