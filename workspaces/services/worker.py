"""The worker process: claims operations, watches the engine, keeps time.

Threads: one claims, several carry out, one extends leases, one follows engine events, one does
what is due by the clock. A worker may be killed at any moment; leases and repeatable steps
bring every operation to its right end. Not in charge of: carrying out (`carrying`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from django.conf import settings
from django.db import DatabaseError, connection

from catalog.services.build_layers import STEP_PREFIX
from catalog.services.image_sweep import sweep_images
from catalog.services.images import refresh_engine_images
from catalog.services.package_facts import FACTS_PREFIX, read_wanted_packages
from ds01portal.engine import get_engine
from ds01portal.engine.base import EngineEvent
from ds01portal.exceptions import EngineError
from ds01portal.models import Operation
from ds01portal.services.events import prune_updates
from ds01portal.services.operations import LEASE, LostLease, Work, claim_operation
from workspaces.services.assignments import release_expired_holds
from workspaces.services.carrying import carry_out, release_dead_workers, worker_name
from workspaces.services.devices import sync_devices
from workspaces.services.machine import (
    note_learned,
    note_unreachable,
    note_worker,
    refresh_machine,
)
from workspaces.services.networks import sweep_networks
from workspaces.services.reconciliation import reconcile_containers
from workspaces.services.specs import LABEL_ID

logger = logging.getLogger(__name__)

POLL = 0.01  # seconds; a look costs one small query
OWN_PAUSE = 2.0  # seconds after the last event of the worker's own doing
EVENT_PAUSE = 0.3  # seconds in which engine events are gathered into one reconcile


class Worker:
    """A worker process. `run` blocks until `stop` is called from a signal handler."""

    def __init__(self) -> None:
        self.name = worker_name()
        self._stop_asked = False
        self._stopping = threading.Event()
        self._events = threading.Event()
        self._look_later = 0.0
        self._pool = ThreadPoolExecutor(settings.DS01_WORKER_THREADS, "operation")
        self._running: dict[Future[None], Operation] = {}
        self._timers: tuple[tuple[str, float, Callable[[], object]], ...] = (
            ("worker", 5, note_worker),
            ("holds", 5, release_expired_holds),
            ("machine", 5, refresh_machine),
            ("reconcile", 60, self._reconcile),
            ("devices", 60, sync_devices),
            ("images", 120, refresh_engine_images),
            ("networks", 300, sweep_networks),
            ("updates", 300, prune_updates),
        )
        # What may take minutes: beside the clock that tells that this worker is alive.
        self._slow_timers: tuple[tuple[str, float, Callable[[], object]], ...] = (
            ("sweep", 60, sweep_images),
            ("packages", 20, read_wanted_packages),
        )

    def stop(self) -> None:
        """Finish what is under way, claim nothing more. Safe in a signal handler.

        Only a flag: setting an Event there deadlocks when the main thread is just waiting for
        that Event and holds its lock.
        """
        self._stop_asked = True

    def run(self) -> None:
        """Work until stopped."""
        release_dead_workers()
        # The host may have changed since: what its engine cannot do is found out anew.
        note_learned(takes_devices=None, takes_memlock=None)
        note_worker()
        threads = [
            threading.Thread(target=target, name=target.__name__, daemon=True)
            for target in (self._keep_leases, self._watch_engine, self._reconcile_on_events)
        ]
        for name, timers in (("clock", self._timers), ("slow clock", self._slow_timers)):
            threads.append(
                threading.Thread(target=self._keep_time, args=(timers,), name=name, daemon=True)
            )
        for thread in threads:
            thread.start()
        logger.info("worker %s is ready", self.name)
        self.claim_until_stopped()
        self._stopping.set()
        self._events.set()
        self._pool.shutdown(wait=True)
        for thread in threads:
            thread.join(timeout=2)
        connection.close()

    def claim_until_stopped(self) -> None:
        """Hand what is due to the threads until `stop` was called."""
        while not self._stop_asked:
            self._running = {f: op for f, op in list(self._running.items()) if not f.done()}
            claimed = None
            if len(self._running) < settings.DS01_WORKER_THREADS:
                try:
                    claimed = claim_operation(worker=self.name)
                except DatabaseError:
                    logger.exception("the queue cannot be read")
                    connection.close()
                    time.sleep(1)
            if claimed is None:
                time.sleep(POLL)
                continue
            self._running[self._pool.submit(self._carry_out, claimed)] = claimed

    def _carry_out(self, operation: Operation) -> None:
        try:
            carry_out(operation)
        finally:
            # Kept open between operations; one that broke is made anew.
            if connection.errors_occurred:
                connection.close()

    def _keep_leases(self) -> None:
        while not self._stopping.wait(LEASE.total_seconds() / 3) or self._running:
            for future, operation in list(self._running.items()):
                if not future.done():
                    self._guard("lease", Work(operation).keep)
            if self._stopping.is_set():
                time.sleep(1)
        connection.close()

    def _keep_time(self, timers: tuple[tuple[str, float, Callable[[], object]], ...]) -> None:
        due = dict.fromkeys((name for name, _, _ in timers), 0.0)
        while not self._stopping.wait(0.25):
            if self._look_later and time.monotonic() >= self._look_later:
                self._look_later = 0.0
                self._events.set()
            for name, interval, act in timers:
                if time.monotonic() >= due[name]:
                    self._guard(name, act)
                    due[name] = time.monotonic() + interval
        connection.close()

    def _guard(self, name: str, act: Callable[[], object]) -> None:
        """Run a periodic duty; its trouble is logged and tried again, never fatal."""
        try:
            act()
        except LostLease:
            pass
        except EngineError as error:
            logger.warning("%s: %s %s", name, error.message, error.cause)
        except Exception:
            logger.exception("%s failed", name)
            connection.close()

    def _reconcile(self) -> None:
        reconcile_containers()

    def _watch_engine(self) -> None:
        """Follow engine events; on every (re)connect look at everything once."""
        while not self._stopping.is_set():
            self._events.set()
            try:
                for event in get_engine().watch_events(
                    since=None, should_stop=self._stopping.is_set
                ):
                    if event.container_name.startswith((STEP_PREFIX, FACTS_PREFIX)):
                        continue  # a step of a build is nobody's container
                    if self._is_own_doing(event):
                        self._look_later = time.monotonic() + OWN_PAUSE
                    else:
                        self._events.set()
            except EngineError as error:
                self._guard("events", lambda error=error: note_unreachable(error=error))  # type: ignore[misc]
            self._stopping.wait(1)
        connection.close()

    def _is_own_doing(self, event: EngineEvent) -> bool:
        """Tell whether an operation of this worker is at work on the container.

        It looks for itself; one more look comes when things have calmed down.
        """
        subject = event.attributes.get(LABEL_ID, "")
        return any(operation.subject_id == subject for operation in self._running.values())

    def _reconcile_on_events(self) -> None:
        while not self._stopping.is_set():
            self._events.wait()
            self._events.clear()
            if self._stopping.is_set():
                break
            self._guard("reconcile", self._reconcile)
            self._stopping.wait(EVENT_PAUSE)
        connection.close()
