"""What is known of the engine: whether it answers, and since when it does not.

Unreachable changes no container: it is said on the pages, and asked again.
"""

from __future__ import annotations

import datetime as dt
import logging
import shutil

from django.utils import timezone

from catalog.services.engine_facts import read_toolkit_version, record_engine_facts
from ds01portal.engine import get_engine
from ds01portal.engine.base import ContainerEngine
from ds01portal.exceptions import EngineError, EngineUnreachable
from ds01portal.services.events import announce_update, record_event
from workspaces.models import Machine

logger = logging.getLogger(__name__)
WORKER_SILENCE = dt.timedelta(seconds=30)


def refresh_machine(*, engine: ContainerEngine | None = None) -> Machine:
    """Ask the engine for its facts and store them; note it when it does not answer."""
    try:
        info = (engine or get_engine()).info()
    except EngineError as error:
        note_unreachable(error=error)
        return Machine.current()
    note_reachable()
    Machine.objects.filter(pk=1).update(
        engine_version=info.version,
        api_version=info.api_version,
        cpus=info.cpus,
        memory_bytes=info.memory,
        engine_root=info.root_dir,
        live_restore=info.live_restore,
        security_options=list(info.security_options),
    )
    record_engine_facts(
        root=info.root_dir, runc_version=info.runc_version, toolkit_version=read_toolkit_version()
    )
    return Machine.current()


def note_unreachable(*, error: EngineError) -> bool:
    """Store since when the engine is away; return True when this is news."""
    now = timezone.now()
    machine = Machine.current()
    changed = Machine.objects.filter(pk=machine.pk, reachable=True).update(
        reachable=False,
        unreachable_since=now,
        outage_from=now,
        outage_until=None,
        error=f"{error.message} {error.cause}".strip(),
    )
    if changed:
        logger.warning("engine unreachable: %s %s", error.message, error.cause)
        record_event(
            verb="unreachable",
            subject_kind="machine",
            subject_id="engine",
            reason="Docker Engine does not answer. No container was changed.",
        )
        announce_update(subject="machine", owner_id=None, reachable=False)
    return bool(changed)


def note_reachable() -> bool:
    """Store that the engine answers; return True when it was away before."""
    now = timezone.now()
    Machine.current()
    changed = Machine.objects.filter(pk=1, reachable=False).update(
        reachable=True, unreachable_since=None, outage_until=now, error=""
    )
    if changed:
        # An engine that was started anew may have learned to hand GPUs over.
        Machine.objects.filter(pk=1).exclude(gpu_source="simulated").update(takes_devices=None)
        logger.info("engine reachable again")
        record_event(
            verb="reachable",
            subject_kind="machine",
            subject_id="engine",
            reason="Docker Engine answers again.",
        )
        announce_update(subject="machine", owner_id=None, reachable=True)
    return bool(changed)


def note_learned(**facts: bool | None) -> None:
    """Store what a launch has shown: `takes_devices`, `takes_memlock` (None: not known)."""
    Machine.objects.filter(pk=1).update(**facts)


def note_worker() -> None:
    """Store that a worker lives."""
    Machine.objects.filter(pk=1).update(worker_seen_at=timezone.now())


def is_worker_alive(machine: Machine) -> bool:
    """Tell whether a worker was seen of late."""
    seen = machine.worker_seen_at
    return seen is not None and timezone.now() - seen < WORKER_SILENCE


def free_disk_bytes(machine: Machine) -> int | None:
    """Return free bytes where the engine keeps its data; None when that cannot be seen."""
    try:
        return shutil.disk_usage(machine.engine_root or "/").free
    except OSError:
        return None


def require_reachable(*, engine: ContainerEngine) -> None:
    """Raise EngineUnreachable when the engine does not answer a ping."""
    try:
        engine.ping()
    except EngineUnreachable as error:
        note_unreachable(error=error)
        raise
