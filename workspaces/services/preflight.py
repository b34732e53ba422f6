"""Look at a launch before anything is made: all findings at once.

The same checks serve the form while it is filled, `create_container --dry-run`, and the
launch itself, which stops at the first refusal. An engine that does not answer is a warning:
the launch then waits for it. Not in charge of: reserving; the launch checks again inside its
transaction what others may take meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from ds01portal.engine import get_engine
from ds01portal.engine.base import ContainerEngine
from ds01portal.exceptions import (
    EngineError,
    FolderRefused,
    InvalidInput,
    NoFreeDevice,
    RefusedError,
)
from ds01portal.limits import UNLIMITED, Special, format_bytes
from ds01portal.services.quotas import EffectiveLimits, check_limit, resolve_limits
from workspaces.models import Container, Device, Machine
from workspaces.services.assignments import check_device_quota
from workspaces.services.findings import Finding, warn
from workspaces.services.folders import check_shared_folder, workspace_parts
from workspaces.services.launch_images import check_image
from workspaces.services.machine import free_disk_bytes, is_worker_alive
from workspaces.services.requests import LaunchRequest, check_name, choose_size
from workspaces.services.specs import engine_name


@dataclass(frozen=True, kw_only=True, slots=True)
class _Context:
    request: LaunchRequest
    limits: EffectiveLimits
    machine: Machine
    engine: ContainerEngine


# What the transaction of the launch does not look at again. The engine's answer is missing on
# purpose: a launch waits for it.
BEFORE_LAUNCH = ("name", "image", "devices", "folders", "disk")


def check_launch(
    *, request: LaunchRequest, engine: ContainerEngine | None = None, only: Sequence[str] = ()
) -> list[Finding]:
    """Return one finding per check, refusals included; raise nothing for bad requests."""
    context = _Context(
        request=request,
        limits=resolve_limits(person=request.owner),
        machine=Machine.current(),
        engine=engine or get_engine(),
    )
    checks: tuple[tuple[str, Callable[[_Context], str | Finding]], ...] = (
        ("name", _check_name),
        ("containers", _check_containers),
        ("image", _check_image),
        ("size", _check_size),
        ("devices", _check_devices),
        ("folders", _check_folders),
        ("engine", _check_engine),
        ("disk", _check_disk),
    )
    return [_run(name, check, context) for name, check in checks if not only or name in only]


def _run(name: str, check: Callable[[_Context], str | Finding], context: _Context) -> Finding:
    try:
        found = check(context)
    except RefusedError as error:
        return Finding(
            check=name, level="refused", message=error.message, hint=error.hint, error=error
        )
    if isinstance(found, Finding):
        return found
    return Finding(check=name, level="ok", message=found)


def _check_name(context: _Context) -> str:
    request = context.request
    check_name(request.name)
    ensure_name_is_new(request.name, engine_name(request.name, request.owner))
    return f"The name {request.name} is free."


def ensure_name_is_new(name: str, full_name: str) -> None:
    """Raise InvalidInput when the person has a container of that name."""
    taken = Container.objects.counted().filter(engine_name=full_name)
    if taken.exists():
        raise InvalidInput(
            f"You have a container named {name} already.",
            hint="Choose another name, or remove the old container first.",
            field="name",
            value=name,
        )


def check_container_count(*, request: LaunchRequest, limits: EffectiveLimits) -> str:
    """Raise QuotaExceeded when the owner may not have one more."""
    used = Container.objects.counted().filter(owner=request.owner).count()
    check_limit(
        limits=limits,
        name="containers",
        used=used,
        requested=1,
        hint="Remove a container you do not need, or ask an admin for more.",
    )
    limit = limits.value("containers")
    return f"Container {used + 1} of {'any number' if isinstance(limit, Special) else limit}."


def _check_containers(context: _Context) -> str:
    return check_container_count(request=context.request, limits=context.limits)


def _check_image(context: _Context) -> str | Finding:
    return check_image(
        image=context.request.image, reference=context.request.reference, engine=context.engine
    )


def check_totals(
    *, limits: EffectiveLimits, owner: Any, size: Mapping[str, float], own: Container | None = None
) -> None:
    """Raise QuotaExceeded when this size and all that run, except `own`, would be too large."""
    others = Container.objects.active().filter(owner=owner).exclude(pk__in=[own.pk] if own else [])
    active = others.values_list("spec", flat=True)
    rows = [spec for spec in active if spec]
    for name, key in (("total_cpus", "cpus"), ("total_memory", "memory")):
        if limits.value(name) is UNLIMITED:
            continue
        used = sum(float(spec.get(key, 0)) for spec in rows)
        check_limit(limits=limits, name=name, used=used, requested=float(size[key]))


def _check_size(context: _Context) -> str | Finding:
    size, notes = choose_size(
        request=context.request, limits=context.limits, machine=context.machine
    )
    check_totals(limits=context.limits, owner=context.request.owner, size=size)
    if notes:
        return warn("size", " ".join(notes))
    return f"{size['cpus']:g} cores and {format_bytes(int(size['memory']))} of memory."


def _check_devices(context: _Context) -> str | Finding:
    request = context.request
    count = request.device_count
    if not count:
        return "No GPU."
    if count < 0:
        raise InvalidInput(
            f"{count} GPUs make no sense.", hint="Ask for 0 or more.", field="devices"
        )
    free = list(Device.objects.free())
    offered = list(Device.objects.offered())
    check_device_quota(
        owner=request.owner,
        count=count,
        uuids=request.device_uuids,
        limits=context.limits,
        offered=offered,
    )
    gone = set(request.device_uuids) - {device.uuid for device in free}
    if len(free) < count or gone:
        raise NoFreeDevice(
            f"{len(free)} of {len(offered)} devices are free now, {count} asked for."
            if not gone
            else "A device you picked is not free any more.",
            hint="Ask for fewer, pick another, or start without a GPU.",
            free=len(free),
            requested=count,
        )
    words = f"{count} of {len(free)} free devices."
    if any(device.simulated for device in free):
        return warn("devices", f"{words} They are simulated.")
    if context.machine.takes_devices is False:
        raise NoFreeDevice(
            "The engine cannot hand GPUs to containers.",
            hint="An admin must install the NVIDIA container toolkit.",
            free=0,
            requested=count,
        )
    return words


def _check_folders(context: _Context) -> str:
    request = context.request
    parts = workspace_parts(request.workspace)
    for folder in (request.data, request.models):
        if folder is None:
            continue
        if not type(folder).objects.visible_to(request.owner).filter(pk=folder.pk).exists():
            raise FolderRefused(
                f"The shared folder “{folder.name}” is not offered to you.",
                hint="Choose one from the list.",
                field=str(folder.purpose),
            )
        check_shared_folder(folder=folder)
    return f"Your workspace{'/' if parts else ''}{'/'.join(parts)} is mounted at /workspace."


def _check_engine(context: _Context) -> str | Finding:
    try:
        context.engine.ping()
    except EngineError:
        return warn(
            "engine",
            "Docker Engine does not answer now.",
            "The launch waits until it does; nothing else is lost.",
        )
    if not is_worker_alive(context.machine):
        return warn("engine", "No worker is running.", "The launch waits until one does.")
    return "Docker Engine answers."


def _check_disk(context: _Context) -> str | Finding:
    free = free_disk_bytes(context.machine)
    floor = int(settings.DS01_DISK_FLOOR)
    if free is None:
        return warn("disk", "The engine's free disk cannot be seen from here.")
    if free < floor:
        raise RefusedError(
            f"The machine's disk is nearly full: {format_bytes(free)} are free.",
            hint="Ask an admin to clean up; nothing of yours is affected.",
            free=free,
            floor=floor,
            field="disk",
        )
    return f"{format_bytes(free)} of disk are free."
