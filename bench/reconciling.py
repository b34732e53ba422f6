"""Part d: comparing rows with the engine, on real containers and on many fake ones."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench import hands
from bench.report import Figure, at_most
from bench.site import Site, new_site

CHANGED = 10  # per cent that change behind the portal's back
PEOPLE = 20


class Counting:
    """An engine that counts what it is asked."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.asked: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._engine, name)
        if callable(found):
            self.asked[name] += 1
        return found


def _reconcile(engine: Any) -> dict[str, Any]:
    """Reconcile once; return seconds, calls, and what changed."""
    from django.db import connection

    from workspaces.services.reconciliation import reconcile_containers

    counting = Counting(engine)
    begun = time.monotonic()
    engine.list_containers()
    listing = time.monotonic() - begun
    queries = Counter[str]()

    def count(execute: Any, sql: str, *rest: Any) -> Any:
        queries[sql.split(maxsplit=1)[0]] += 1
        return execute(sql, *rest)

    with connection.execute_wrapper(count):
        begun, spent = time.monotonic(), time.thread_time()
        report = reconcile_containers(engine=counting)  # type: ignore[arg-type]
        seconds = time.monotonic() - begun
    return {
        "seconds": seconds,
        "processor": time.thread_time() - spent,
        "listing": listing,
        "lists": counting.asked["list_containers"],
        "inspects": counting.asked["inspect_container"],
        "queries": queries.total(),
        "rows": report.rows,
        "changed": len(report.changed) + len(report.gone) + len(report.adopted),
    }


def _make_containers(engine: Any, count: int) -> list[str]:
    """Make running containers with their rows; return the engine's ids."""
    from ds01portal.models import Person
    from workspaces.models import Container

    made = []
    people = []
    for number in range(PEOPLE):
        uid = hands.UIDS.start + 500 + number
        people.append(Person(username=f"rec{number}", uid=uid, gid=uid, linux_name=f"rec{number}"))
    owners = Person.objects.bulk_create(people)
    size = {"cpus": 0.1, "memory": 64 * 1024**2, "swap": 0, "shm": 2**24, "pids": 64, "devices": []}
    for number in range(count):
        owner = owners[number % PEOPLE]
        name = f"rec{number}"
        made.append(
            Container(
                owner=owner,
                name=name,
                engine_name=f"{name}._.{owner.uid}",
                state="running",
                image_reference=hands.TINY,
                spec=size,
            )
        )
    with ThreadPoolExecutor(8) as pool:
        for row, engine_id in zip(made, pool.map(_starter(engine), made), strict=True):
            row.engine_id = engine_id
    Container.objects.bulk_create(made)
    return [row.engine_id for row in made]


def _starter(engine: Any) -> Any:
    from workspaces.models import Machine
    from workspaces.services.specs import build_spec

    image, machine = engine.inspect_image(hands.TINY), Machine.current()

    def start(row: Any) -> str:
        spec = build_spec(container=row, image=image, mounts=(), devices=[], machine=machine)
        plain = dataclasses.replace(
            spec, image=hands.TINY, network="none", working_dir="/", memlock=None
        )
        engine_id = str(engine.create_container(plain))
        engine.start_container(engine_id)
        return engine_id

    return start


def reconcile_series(kind: str, count: int) -> dict[str, Any]:
    """Return what reconciling costs: settled, some stopped, some removed, all unknown."""
    from ds01portal.engine import get_engine
    from ds01portal.engine.fake import FakeEngine
    from workspaces.models import Container, Machine

    Machine.current()
    engine: Any = get_engine()
    if kind == "fake":
        engine = FakeEngine(check_mounts=False)
        engine.add_image(hands.TINY)
    begun = time.monotonic()
    ids = _make_containers(engine, count)
    found: dict[str, Any] = {"made in": time.monotonic() - begun}
    _reconcile(engine)  # as the first of a process it also loads modules
    found["nothing changed"] = _reconcile(engine)
    some = max(1, count * CHANGED // 100)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: engine.stop_container(one, timeout=0), ids[:some]))
    found[f"{some} stopped outside"] = _reconcile(engine)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: engine.remove_container(one, force=True), ids[:some]))
    found[f"{some} removed outside"] = _reconcile(engine)
    Container.objects.all().delete()
    found["all unknown, adopted"] = _reconcile(engine)
    return found


def measure_reconcile(folder: Path, quick: bool) -> list[Figure]:
    """Return the figures of both engines."""
    figures = []
    for kind, count in (("fake", 200 if quick else 2000), ("real", 20 if quick else 200)):
        with new_site(folder, "SQLite") as site:
            try:
                figures += _figures_of(site, kind, count)
            finally:
                site.call(hands.clean_engine)
    return figures


def _figures_of(site: Site, kind: str, count: int) -> list[Figure]:
    found = site.call(reconcile_series, kind, count)
    made_in = found.pop("made in")
    figures = []
    for name, one in found.items():
        asked = "adopted" not in name
        figures.append(
            Figure(
                part="d",
                name=f"reconcile {count} {kind}, {name}",
                value=one["seconds"],
                unit="s",
                raw=one["listing"],
                raw_name="one listing",
                note=f"{one['lists']} list calls, {one['inspects']} inspects,"
                f" {one['queries']} queries, {one['changed']} changed,"
                f" {one['processor']:.2f} s of processor time"
                f" (containers made in {made_in:.0f} s).",
                **(at_most(one["seconds"], 3, "s") if asked else {}),
            )
        )
    lists = {one["lists"] for one in found.values()}
    figures.append(
        Figure(
            part="d",
            name=f"list calls of a reconcile, {count} {kind}",
            value=max(lists),
            unit="",
            target="constant",
            met=lists == {1},
        )
    )
    return figures
