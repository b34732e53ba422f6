"""Live updates: what an open page hears, and what a hundred of them cost."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import http.client
import json
import os
import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.utils import timezone

from ds01portal.models import Person, Update
from ds01portal.services.events import announce_update
from workspaces import streams
from workspaces.services.updates import (
    GAP_LIFETIME,
    MAX_REPLAY,
    Tick,
    UpdateReader,
    missed_updates,
)
from workspaces.tests import servers
from workspaces.tests.servers import Portal, announce, make_person, running_portal, sign_in

NO_OVERLAP = dt.timedelta(0)


opened: list[Page] = []


class Page:
    """A browser's EventSource, as far as the wire goes."""

    def __init__(self, portal: Portal, session: str, *, last_id: str = "", query: str = "") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", portal.port, timeout=10)
        headers = {"Cookie": f"sessionid={session}", "Accept": "text/event-stream"}
        if not query:
            # From now on: what tests before this one announced is not of interest.
            headers["Last-Event-ID"] = last_id or str(portal.call(newest_id))
        self._connection.request("GET", f"/stream{query}", headers=headers)
        self.response = self._connection.getresponse()
        opened.append(self)
        self.last_id = last_id
        if self.response.status == 200:
            first = self.read_block()
            assert first.get("retry")  # the stream is open and listens
            assert first["id"].isdigit()

    def read_block(self) -> dict[str, str]:
        block: dict[str, str] = {}
        while True:
            line = self.response.readline().decode()
            if not line:
                raise EOFError
            if line == "\n":
                self.last_id = block.get("id", self.last_id)
                return block
            key, _, value = line.rstrip("\n").partition(": ")
            block[key] = value

    def next_event(self) -> tuple[str, dict[str, Any]]:
        """Return the next event that is no ping."""
        while True:
            block = self.read_block()
            if block.get("event") not in (None, "ping"):
                return block["event"], json.loads(block["data"])

    def subjects(self, count: int) -> list[str]:
        return [self.next_event()[1]["subject"] for _ in range(count)]

    def close(self) -> None:
        self.response.close()
        self._connection.close()


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    """Run a portal on the kind of database that this run is about."""
    with contextlib.ExitStack() as stack:
        url = ""
        if "postgresql" in django_settings.DATABASES["default"]["ENGINE"]:
            url = stack.enter_context(servers.postgres_database())
        folder = tmp_path_factory.mktemp("portal")
        yield stack.enter_context(running_portal(folder, database_url=url))


@pytest.fixture(scope="module")
def people(portal: Portal) -> dict[str, tuple[int, str]]:
    """Make Alice, Bob and an admin; return their ids and sessions."""
    return {
        name: (portal.call(make_person, name, staff=name == "ada"), portal.call(sign_in, name))
        for name in ("alice", "bob", "ada")
    }


@pytest.fixture(autouse=True)
def closed_pages() -> Iterator[None]:
    """Close what a test, or its failure, left open."""
    yield
    while opened:
        opened.pop().close()


@pytest.fixture
def alice(db: None) -> Person:
    return Person.objects.create_user("alice", uid=200001, gid=200001, linux_name="alice")


# ---- On the wire --------------------------------------------------------------------------------


@pytest.mark.race
def test_a_page_hears_its_changes_in_order_and_soon(portal, people):
    alice, session = people["alice"]
    page = Page(portal, session)
    assert page.response.headers["Cache-Control"] == "no-store"
    assert page.response.headers["X-Accel-Buffering"] == "no"
    assert page.response.headers["Content-Type"] == "text/event-stream"

    sent = [f"container:{number}" for number in range(30)]
    delays = portal.call(announce_timed, alice, sent)
    heard = []
    for _ in sent:
        heard.append(page.next_event()[1])
    page.close()

    assert [update["subject"] for update in heard] == sent
    assert heard[0] == {"subject": "container:0", "state": "running", "percent": 1}
    assert len(delays) == len(sent)


@pytest.mark.race
def test_the_median_from_commit_to_page_is_below_40_ms(portal, people):
    alice, session = people["alice"]
    page = Page(portal, session)
    delays = []
    for number in range(40):
        time.sleep(random.uniform(0, 0.05))  # else every write comes right after a look
        written = portal.call(announce_now, f"container:{number}", alice)
        page.next_event()
        delays.append((time.time() - written) * 1000)
    page.close()

    print(f"commit to page: median {statistics.median(delays):.1f} ms, most {max(delays):.1f} ms")
    assert statistics.median(delays) < 40


@pytest.mark.race
def test_bob_never_hears_alice_and_an_admin_hears_everybody(portal, people):
    alice, bob = people["alice"][0], people["bob"][0]
    pages = {name: Page(portal, session) for name, (_, session) in people.items()}

    portal.call(announce, "container:alices", alice)
    portal.call(announce, "container:bobs", bob)
    portal.call(announce, "machine", None)

    assert pages["alice"].subjects(2) == ["container:alices", "machine"]
    assert pages["bob"].subjects(2) == ["container:bobs", "machine"]
    assert pages["ada"].subjects(3) == ["container:alices", "container:bobs", "machine"]
    for page in pages.values():
        page.close()


@pytest.mark.race
def test_a_page_that_comes_back_hears_what_it_missed_once(portal, people):
    alice, session = people["alice"]
    page = Page(portal, session)
    portal.call(announce, "container:seen", alice)
    assert page.subjects(1) == ["container:seen"]
    page.close()
    portal.call(announce, "container:missed-1", alice)
    portal.call(announce, "container:bobs", people["bob"][0])
    portal.call(announce, "container:missed-2", alice)

    for back in (
        Page(portal, session, last_id=page.last_id),
        Page(portal, session, query=f"?last_id={page.last_id}"),
    ):
        portal.call(announce, "container:new", alice)
        heard = back.subjects(3)
        assert heard[:2] == ["container:missed-1", "container:missed-2"]
        assert heard[2] == "container:new"
        back.close()
        portal.call(forget_subject, "container:new")


@pytest.mark.race
@pytest.mark.parametrize("last_id", ["999999999", "nonsense", "-5"])
def test_a_place_that_cannot_be_resumed_from_means_look_at_everything(portal, people, last_id):
    page = Page(portal, people["alice"][1], last_id=last_id)

    assert page.next_event() == ("resync", {})
    assert page.last_id.isdigit()
    page.close()


@pytest.mark.race
def test_nobody_listens_without_a_session(portal):
    page = Page(portal, "")

    assert page.response.status == 403
    page.close()


@pytest.mark.race
def test_only_get_and_head_are_answered(portal, people):
    connection = http.client.HTTPConnection("127.0.0.1", portal.port, timeout=10)
    statuses = {}
    for method in ("HEAD", "POST"):
        connection.request(method, "/stream", headers={"Cookie": f"sessionid={people['bob'][1]}"})
        answer = connection.getresponse()
        answer.read()
        statuses[method] = answer.status
    connection.close()

    assert statuses == {"HEAD": 200, "POST": 403}, "Django asks a POST for its token first"


@pytest.mark.race
def test_streams_end_with_the_server_and_come_back(tmp_path):
    with running_portal(tmp_path) as portal:
        alice = portal.call(make_person, "alice")
        session = portal.call(sign_in, "alice")
        page = Page(portal, session)

        took = portal.stop()

        with pytest.raises(EOFError):
            page.read_block()
        assert took < 4, f"the server waited {took:.1f} s for its open streams"
        portal.call(announce, "container:meanwhile", alice)
        portal.start()
        back = Page(portal, session, last_id=page.last_id or "0")
        assert back.subjects(1) == ["container:meanwhile"]


@pytest.mark.race
def test_a_hundred_streams_share_one_poller(portal, people):
    alice, session = people["alice"]
    before = portal.thread_count()
    pages = [Page(portal, session) for _ in range(100)]
    assert portal.call(announce, "container:shared", alice)
    assert all(page.subjects(1) == ["container:shared"] for page in pages)

    extra = portal.thread_count() - before
    connections = count_connections(portal)
    used = portal.cpu_seconds()
    time.sleep(3)
    idle = (portal.cpu_seconds() - used) / 3 * 100
    for page in pages:
        page.close()

    print(f"100 streams: {extra} more threads, {connections} connections, {idle:.1f} % idle CPU")
    assert extra <= 4
    assert connections <= 4
    assert idle < 10


@pytest.mark.race
def test_nothing_is_read_while_nobody_listens(portal, people):
    page = Page(portal, people["alice"][1])
    portal.call(announce, "container:x", people["alice"][0])
    page.subjects(1)
    assert "updates" in thread_names(portal)
    page.close()

    deadline = time.monotonic() + 10
    while "updates" in thread_names(portal) and time.monotonic() < deadline:
        portal.call(announce, "container:wakes-the-dead-connection", people["alice"][0])
        time.sleep(0.2)

    assert "updates" not in thread_names(portal)


@pytest.mark.race
def test_on_postgresql_commits_out_of_order_reach_the_page(tmp_path):
    with (
        servers.postgres_database() as url,
        running_portal(tmp_path, database_url=url) as portal,
    ):
        alice, session = portal.call(make_person, "alice"), portal.call(sign_in, "alice")
        page = Page(portal, session)

        low, high = portal.call(announce_out_of_order, alice)
        assert low < high
        assert page.subjects(2) == ["container:high", "container:low"]
        # Whoever heard only the higher one resumes before the lower one.
        back = Page(portal, session, last_id=str(low - 1))
        assert back.subjects(2) == ["container:low", "container:high"]

        pages = [Page(portal, session) for _ in range(100)]
        portal.call(announce, "container:shared", alice)
        assert all(page.subjects(1) == ["container:shared"] for page in pages)
        connections = portal.call(count_backends)
        print(f"100 streams on PostgreSQL: {connections} connections, helper's own included")
        assert connections <= 6
        for one in [page, back, *pages]:
            one.close()


def count_connections(portal: Portal) -> int:
    """Return how many connections the serving process has to its database."""
    if portal.environment["DATABASE_URL"].startswith("sqlite"):
        files = []
        for one in Path(f"/proc/{portal.worker_pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                files.append(os.readlink(one))
        return sum(name.endswith("portal.sqlite3") for name in files)
    return portal.call(count_backends)


def thread_names(portal: Portal) -> list[str]:
    """Return the kinds of threads: Python 3.11 names none, so the poller is told by its wakes."""
    busy = []
    for task in Path(f"/proc/{portal.worker_pid}/task").iterdir():
        with contextlib.suppress(OSError):
            busy.append((task, _switches(task)))
    time.sleep(0.5)
    for task, earlier in busy:
        with contextlib.suppress(OSError):
            if task.name != str(portal.worker_pid) and _switches(task) - earlier > 10:
                return ["updates"]
    return []


def _switches(task: Path) -> int:
    for line in (task / "status").read_text().splitlines():
        if line.startswith("voluntary_ctxt_switches"):
            return int(line.split()[1])
    return 0


# ---- In the portal's helper process -------------------------------------------------------------


def announce_timed(owner_id: int, subjects: list[str]) -> list[float]:
    return [announce_now(subject, owner_id, state="running", percent=1) for subject in subjects]


def announce_now(subject: str, owner_id: int, **data: Any) -> float:
    announce_update(subject=subject, owner_id=owner_id, **data)
    return time.time()


def newest_id() -> int:
    return Update.objects.order_by("-id").values_list("id", flat=True).first() or 0


def forget_subject(subject: str) -> None:
    Update.objects.filter(subject=subject).delete()


def count_backends() -> int:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def announce_out_of_order(owner_id: int) -> tuple[int, int]:
    """Take an id, let a later one be committed and heard, then commit the first."""
    import threading

    from django.db import connections, transaction

    taken, go = threading.Event(), threading.Event()

    def slow() -> None:
        with transaction.atomic():
            announce_update(subject="container:low", owner_id=owner_id)
            taken.set()
            go.wait(10)
        connections.close_all()

    thread = threading.Thread(target=slow)
    thread.start()
    taken.wait(10)
    announce_update(subject="container:high", owner_id=owner_id)
    time.sleep(0.3)  # the page hears the higher one
    go.set()
    thread.join()
    ids = dict(Update.objects.values_list("subject", "id"))
    return ids["container:low"], ids["container:high"]


# ---- Rules --------------------------------------------------------------------------------------


def make_ticks(owner_id: int | None, *subjects: str) -> list[Update]:
    return [Update.objects.create(subject=one, owner_id=owner_id) for one in subjects]


def test_more_than_500_missed_ticks_are_not_told_one_by_one(alice):
    Update.objects.bulk_create(
        Update(subject=f"container:{number}", owner_id=alice.pk) for number in range(MAX_REPLAY + 2)
    )
    first = Update.objects.earliest("id").pk

    all_but_one = missed_updates(person=alice, after=first + 1, overlap=NO_OVERLAP)
    one_too_many = missed_updates(person=alice, after=first, overlap=NO_OVERLAP)

    assert len(all_but_one.ticks) == MAX_REPLAY
    assert all_but_one.complete
    assert not one_too_many.complete
    assert one_too_many.ticks == ()


def test_a_place_older_than_what_is_kept_is_not_resumed_from(alice):
    rows = make_ticks(alice.pk, "container:1", "container:2", "container:3")
    cursor = rows[0].pk
    rows[0].delete()
    assert missed_updates(person=alice, after=cursor, overlap=NO_OVERLAP).complete

    rows[1].delete()
    assert not missed_updates(person=alice, after=cursor, overlap=NO_OVERLAP).complete

    Update.objects.all().delete()
    assert not missed_updates(person=alice, after=cursor, overlap=NO_OVERLAP).complete
    assert missed_updates(person=alice, after=0, overlap=NO_OVERLAP).complete


def test_a_new_page_hears_what_changed_while_it_was_made(alice):
    old, new = make_ticks(alice.pk, "container:old", "container:new")
    Update.objects.filter(pk=old.pk).update(created_at=timezone.now() - dt.timedelta(minutes=1))

    missed = missed_updates(person=alice, after=None, overlap=dt.timedelta(seconds=2))

    assert [tick.subject for tick in missed.ticks] == ["container:new"]
    assert missed.cursor == new.pk


def test_an_id_that_appears_late_is_read_and_none_twice(db):
    clock = [0.0]
    reader = UpdateReader(now=lambda: clock[0])
    reader.start()
    base = reader.last
    Update.objects.create(id=base + 1, subject="a")
    Update.objects.create(id=base + 3, subject="c")

    first = reader.read()
    assert [tick.subject for tick in first] == ["a", "c"]
    assert [tick.cursor for tick in first] == [base + 1, base + 1], "2 is still to come"
    assert reader.read() == []

    Update.objects.create(id=base + 2, subject="b")
    late = reader.read()
    assert [(tick.subject, tick.cursor) for tick in late] == [("b", base + 2)]
    assert reader.cursor == base + 3
    assert reader.read() == []


def test_an_id_that_never_comes_is_given_up(db):
    clock = [0.0]
    reader = UpdateReader(now=lambda: clock[0])
    reader.start()
    base = reader.last
    Update.objects.create(id=base + 5, subject="after a rollback")
    reader.read()
    assert reader.cursor == base

    clock[0] = GAP_LIFETIME + 0.1
    reader.read()

    assert reader.cursor == base + 5


def test_a_sequence_that_jumps_far_costs_nothing(db):
    reader = UpdateReader()
    reader.start()
    Update.objects.create(id=reader.last + 10**9, subject="far")

    begun = time.monotonic()
    assert [tick.subject for tick in reader.read()] == ["far"]
    assert time.monotonic() - begun < 1


def test_a_reader_that_starts_late_still_waits_for_ids_under_way(db):
    Update.objects.create(id=11, subject="a")
    Update.objects.create(id=13, subject="c")
    reader = UpdateReader()
    reader.start()

    assert reader.cursor == 11
    Update.objects.create(id=12, subject="b")
    assert [tick.subject for tick in reader.read()] == ["b"]


def test_a_slow_page_loses_what_waits_and_looks_at_everything_again():
    async def story() -> list[bytes]:
        hub = streams.Hub()
        hub.cursor = 300
        slow = streams.Subscriber(person_id=1, hears_all=False)
        for number in range(streams.MAX_WAITING + 50):
            slow.put(number, b"event\n\n")
        loop = asyncio.get_running_loop()
        loop.call_later(0.05, slow.put, 301, b"after\n\n")
        loop.call_later(0.1, slow.end)
        parts = [part async for part in streams.follow(hub, slow, streams.Missed(cursor=7))]
        hub.forget()
        return parts

    assert asyncio.run(story()) == [b"id: 300\nevent: resync\ndata: {}\n\n", b"after\n\n"]


def test_silence_is_broken_by_pings_that_carry_the_place(monkeypatch):
    monkeypatch.setattr(streams, "PING_EVERY", 0.05)

    async def story() -> list[bytes]:
        hub = streams.Hub()
        hub.cursor = 9
        quiet = streams.Subscriber(person_id=1, hears_all=False)
        asyncio.get_running_loop().call_later(0.12, quiet.end)
        parts = [part async for part in streams.follow(hub, quiet, streams.Missed(cursor=7))]
        hub.forget()
        return parts

    pings = asyncio.run(story())
    assert len(pings) >= 2
    assert set(pings) == {b"id: 9\nevent: ping\ndata: {}\n\n"}


def test_what_was_replayed_is_not_told_again():
    async def story() -> list[bytes]:
        hub = streams.Hub()
        subscriber = streams.Subscriber(person_id=1, hears_all=False)
        replayed = Tick(id=5, subject="container:5", owner_id=1, cursor=5)
        subscriber.put(5, streams.encode_tick(replayed))
        subscriber.put(6, b"new\n\n")
        asyncio.get_running_loop().call_later(0.05, subscriber.end)
        missed = streams.Missed(ticks=(replayed,), cursor=5)
        parts = [part async for part in streams.follow(hub, subscriber, missed)]
        hub.forget()
        return parts

    assert asyncio.run(story()) == [b"new\n\n"]
