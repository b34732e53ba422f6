"""Rows for a portal that has been used for long. Runs where Django is set up.

Not in charge of: rows that the engine must agree with.
"""

from __future__ import annotations

import datetime as dt
import itertools
import uuid
from typing import Any

VERBS = ("launch", "launched", "stop", "stopped", "start", "started")
STATES = ("running", "stopped", "running", "paused")
BATCH = 2000


def seed(
    people: int, containers: int, events: int, own: dict[str, int], whole_catalogue: bool
) -> dict[str, int]:
    """Fill the database up to these totals; `own` says how many are whose."""
    from ds01portal.models import Event, Person
    from workspaces.models import Container, Machine

    if whole_catalogue:
        from catalog.services.sync import sync_catalog

        sync_catalog()
    Machine.objects.filter(pk=1).update(worker_seen_at=dt.datetime.now(dt.UTC))
    _add_people(people - Person.objects.count())
    for username, count in own.items():
        person = Person.objects.get(username=username)
        _add_containers([person], count - Container.objects.filter(owner=person).count())
    others = list(Person.objects.exclude(username__in=own).order_by("pk"))
    _add_containers(others, containers - Container.objects.count())
    _add_assignments()
    _add_events(events - Event.objects.count())
    _analyse()
    return {
        "people": Person.objects.count(),
        "containers": Container.objects.count(),
        "events": Event.objects.count(),
    }


def _analyse() -> None:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def _add_people(count: int) -> None:
    from django.contrib.auth.models import Group

    from bench.site import UIDS
    from ds01portal.models import Person

    first = Person.objects.count()
    made = Person.objects.bulk_create(
        Person(
            username=f"student{number}",
            email=f"student{number}@example.org",
            password="!",
            uid=UIDS.stop + number,
            gid=UIDS.stop + number,
            linux_name=f"student{number}",
        )
        for number in range(first, first + count)
    )
    group = Group.objects.get(name="student")
    through: Any = Person.groups.through
    through.objects.bulk_create(through(person_id=one.pk, group_id=group.pk) for one in made)


def _add_containers(owners: list[Any], count: int) -> None:
    from catalog.models import Image
    from ds01portal.models import Operation
    from workspaces.models import Container

    image = Image.objects.order_by("pk").first()
    assert image is not None
    now = dt.datetime.now(dt.UTC)
    rows, operations = [], []
    for number, owner in zip(range(count), itertools.cycle(owners), strict=False):
        state = STATES[number % len(STATES)]
        name = f"run{number}-{uuid.uuid4().hex[:6]}"
        row = Container(
            owner=owner,
            name=name,
            engine_name=f"{name}._.{owner.uid}",
            engine_id=uuid.uuid4().hex * 2,
            state=state,
            image=image,
            image_reference=image.reference,
            framework=image.framework,
            version=image.version,
            spec={"cpus": 2, "memory": 2**31, "swap": 0, "shm": 2**30, "pids": 512, "devices": []},
            workspace_path=f"/srv/workspaces/{owner.linux_name}",
            started_at=now - dt.timedelta(minutes=number),
            stopped_at=now if state == "stopped" else None,
            exit_code=0 if state == "stopped" else None,
        )
        rows.append(row)
        operations.append(_ended_launch(row, now, Operation))
    Container.objects.bulk_create(rows, batch_size=BATCH)
    Operation.objects.bulk_create(operations, batch_size=BATCH)


def _ended_launch(row: Any, now: dt.datetime, operation: Any) -> Any:
    return operation(
        kind="launch",
        **row.subject,
        owner=row.owner,
        actor=row.owner,
        state="done",
        phase="verify",
        percent=100,
        attempt=1,
        not_before=now,
        deadline_at=now,
        created_at=now,
        started_at=now,
        finished_at=now,
    )


def _add_assignments() -> None:
    """Let running containers hold all whole GPUs but one."""
    from workspaces.models import Assignment, Container, Device

    now = dt.datetime.now(dt.UTC)
    devices = list(Device.objects.free().filter(kind="gpu"))[:-1]
    running = Container.objects.filter(state="running", assignments=None).order_by("created_at")
    for device, row in zip(devices, running[: len(devices)], strict=True):
        Assignment.objects.create(
            device=device, container=row, state="bound", reserved_at=now, bound_at=now
        )
        Container.objects.filter(pk=row.pk).update(
            spec={**row.spec, "devices": [device.uuid]}, devices_requested=1, simulated=True
        )


def _add_events(count: int) -> None:
    from ds01portal.models import Event
    from workspaces.models import Container

    rows = list(Container.objects.select_related("owner"))
    endless = zip(itertools.cycle(rows), itertools.cycle(VERBS), strict=False)
    made = (
        Event(
            verb=verb,
            **row.subject,
            owner=row.owner,
            actor=row.owner,
            before={},
            after={"state": row.state},
            reason="",
            evidence={},
        )
        for row, verb in itertools.islice(endless, max(count, 0))
    )
    while batch := list(itertools.islice(made, 5000)):
        Event.objects.bulk_create(batch, batch_size=BATCH)


def count_queries(paths: dict[str, str], people: dict[str, str]) -> dict[str, int]:
    """Return page → queries of its second request; `people` says as whom."""
    from django.conf import settings
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from ds01portal.models import Person

    found = {}
    for name, path in paths.items():
        client = Client(headers={"host": "127.0.0.1"})
        person = Person.objects.get(username=people[name])
        client.force_login(person, settings.AUTHENTICATION_BACKENDS[0])
        client.get(path)
        with CaptureQueriesContext(connection) as queries:
            answer = client.get(path)
        if answer.status_code != 200:
            raise RuntimeError(f"{path}: {answer.status_code}")
        found[name] = len(queries)
    return found


def address_of_own(viewer: str) -> str:
    """Return the page of one of the viewer's containers."""
    from workspaces.models import Container

    row = Container.objects.filter(owner__username=viewer, state="running").first()
    assert row is not None
    return row.get_absolute_url()
