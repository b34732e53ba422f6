"""A build's log, live: in order, once, from where a page stopped, and soon for twenty viewers.

The portal runs in processes of its own; what a worker would write is written by a third one.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings as django_settings

from catalog import streams
from ds01portal import streaming
from workspaces.tests import servers
from workspaces.tests.servers import Portal, make_person, running_portal, sign_in

opened: list[Viewer] = []


class Viewer:
    """A browser's EventSource on a build, as far as the wire goes."""

    def __init__(self, portal: Portal, session: str, build: str, *, last_id: str = "") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", portal.port, timeout=15)
        headers = {"Cookie": f"sessionid={session}", "Accept": "text/event-stream"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        self._connection.request("GET", f"/builds/{build}/output/", headers=headers)
        self.response = self._connection.getresponse()
        opened.append(self)
        self.last_id = last_id

    def next_event(self) -> tuple[str, Any]:
        """Return the next event that is no ping; "closed" when there is none any more."""
        block: dict[str, str] = {}
        while True:
            line = self.response.readline().decode()
            if not line:
                return "closed", None
            if line != "\n":
                key, _, value = line.rstrip("\n").partition(": ")
                block[key] = value
                continue
            self.last_id = block.get("id", self.last_id)
            if block.get("event") not in (None, "ping"):
                return block["event"], json.loads(block["data"])
            block = {}

    def outputs(self, count: int) -> list[dict[str, Any]]:
        """Return the next pieces of the log."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            kind, data = self.next_event()
            assert kind in ("output", "state"), kind
            if kind == "output":
                found.append(data)
        return found

    def rest(self) -> list[tuple[str, Any]]:
        """Return all events until the stream ends."""
        found = []
        while (event := self.next_event())[0] != "closed":
            found.append(event)
        return found

    def close(self) -> None:
        """Go away."""
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
def sessions(portal: Portal) -> dict[str, str]:
    """Make Alice, Charlie and an admin; return their sessions."""
    for name in ("alice", "charlie", "ada"):
        portal.call(make_person, name, staff=name == "ada")
    return {name: portal.call(sign_in, name) for name in ("alice", "charlie", "ada")}


@pytest.fixture(autouse=True)
def closed_viewers() -> Iterator[None]:
    """Close what a test, or its failure, left open."""
    yield
    while opened:
        opened.pop().close()


# ---- In the portal's helper process -------------------------------------------------------------


def begin_build(username: str = "alice") -> str:
    """Make a build that runs."""
    from catalog.models import Build, Recipe
    from ds01portal.models import Person

    owner = Person.objects.get(username=username)
    name = f"r-{uuid.uuid4().hex[:8]}"
    recipe = Recipe.objects.create(owner=owner, name=name, sharing="everybody")
    steps = [{"title": "Packages", "command": "x", "state": "running"}]
    build = Build.objects.create(recipe=recipe, number=1, state="running", steps=steps)
    return str(build.pk)


def write(build: str, *texts: str) -> list[int]:
    """Write pieces of the log; return their ids."""
    from django.utils import timezone

    from catalog.models import BuildOutput

    now = timezone.now()
    rows = [
        BuildOutput.objects.create(build_id=build, step=1, at=now, text=text, bytes=len(text))
        for text in texts
    ]
    return [row.pk for row in rows]


def write_many(build: str, count: int) -> None:
    """Write many pieces at once, as a step that says a lot."""
    from django.utils import timezone

    from catalog.models import BuildOutput

    BuildOutput.objects.bulk_create(
        BuildOutput(build_id=build, step=1, at=timezone.now(), text=f"line {number}", bytes=9)
        for number in range(count)
    )


def write_timed(build: str, count: int, pause: float) -> list[float]:
    """Write pieces with pauses; return when each was committed."""
    moments = []
    for number in range(count):
        time.sleep(pause)
        write(build, f"line {number}")
        moments.append(time.time())
    return moments


def end_build(build: str, state: str = "done", text: str = "") -> None:
    """End a build; the last words come before."""
    from catalog.models import Build

    if text:
        write(build, text)
    Build.objects.filter(pk=build).update(
        state=state, steps=[{"title": "Packages", "command": "x", "state": "done", "seconds": 1.0}]
    )


def delete_build(build: str) -> None:
    """Remove a build's row."""
    from catalog.models import Build

    Build.objects.filter(pk=build).delete()


# ---- On the wire --------------------------------------------------------------------------------


@pytest.mark.race
def test_a_page_reads_the_log_from_its_beginning_and_follows_it(portal, sessions):
    build = portal.call(begin_build)
    before = portal.call(write, build, "one", "two")
    viewer = Viewer(portal, sessions["alice"], build)
    assert viewer.response.headers["Content-Type"] == "text/event-stream"
    assert viewer.response.headers["Cache-Control"] == "no-store"

    kind, state = viewer.next_event()
    after = []
    first = viewer.outputs(2)
    after = portal.call(write, build, "three")
    third = viewer.outputs(1)

    assert kind == "state"
    assert state["state"] == "running"
    assert state["steps"][0]["title"] == "Packages"
    assert [piece["id"] for piece in [*first, *third]] == [*before, *after]
    assert first[0]["html"] == '<span class="ln">one\n</span>'
    assert (first[0]["step"], viewer.last_id) == (1, str(after[0]))


@pytest.mark.race
def test_a_page_that_comes_back_reads_on_where_it_stopped(portal, sessions):
    build = portal.call(begin_build)
    ids = portal.call(write, build, "one", "two", "three")
    missed = Viewer(portal, sessions["alice"], build, last_id=str(ids[1]))
    odd = Viewer(portal, sessions["alice"], build, last_id="not a number")

    assert [piece["id"] for piece in missed.outputs(1)] == ids[2:]
    assert [piece["id"] for piece in odd.outputs(3)] == ids
    last = portal.call(write, build, "four")
    assert [piece["id"] for piece in missed.outputs(1)] == last


@pytest.mark.race
def test_the_end_comes_after_the_last_line_and_closes_the_stream(portal, sessions):
    build = portal.call(begin_build)
    viewer = Viewer(portal, sessions["alice"], build)
    viewer.next_event()
    portal.call(end_build, build, text="Built.")

    events = viewer.rest()
    kinds = [kind for kind, _data in events]

    assert kinds[-1] == "end"
    assert kinds.count("end") == 1
    assert kinds.index("output") < kinds.index("end")
    assert [data for kind, data in events if kind == "state"][-1]["state"] == "done"


@pytest.mark.race
def test_a_build_that_has_ended_is_told_whole_and_ends(portal, sessions):
    build = portal.call(begin_build)
    ids = portal.call(write, build, "one", "two")
    portal.call(end_build, build, "failed")

    events = Viewer(portal, sessions["alice"], build).rest()

    assert [data["id"] for kind, data in events if kind == "output"] == ids
    assert events[0][1]["state"] == "failed"
    assert [kind for kind, _data in events][-1] == "end"


@pytest.mark.race
def test_a_build_that_vanishes_ends_its_streams(portal, sessions):
    build = portal.call(begin_build)
    viewer = Viewer(portal, sessions["alice"], build)
    viewer.next_event()
    portal.call(delete_build, build)

    assert viewer.rest()[-1][0] == "end"
    assert Viewer(portal, sessions["alice"], build).response.status == 404


@pytest.mark.race
def test_strangers_find_no_stream(portal, sessions):
    build = portal.call(begin_build)

    assert Viewer(portal, sessions["charlie"], build).response.status == 404
    assert Viewer(portal, "nobody", build).response.status == 403
    assert Viewer(portal, sessions["ada"], build).response.status == 200


@pytest.mark.race
def test_nothing_that_a_log_says_is_markup(portal, sessions):
    build = portal.call(begin_build)
    viewer = Viewer(portal, sessions["alice"], build)
    portal.call(write, build, "<script>alert(1)</script>\ndata: x\n\nevent: end\n\x1b[31mred")

    (piece,) = viewer.outputs(1)

    assert "<script>" not in piece["html"]
    assert "&lt;script&gt;" in piece["html"]
    assert "event: end" in piece["html"], "a line cannot end the stream"
    assert '<span class="sgr-31">red</span>' in piece["html"]


@pytest.mark.race
def test_a_flood_reaches_every_viewer_whole_and_in_order(portal, sessions):
    build = portal.call(begin_build)
    viewers = [Viewer(portal, sessions["alice"], build) for _ in range(3)]
    for viewer in viewers:
        viewer.next_event()
    portal.call(write_many, build, 1500)
    portal.call(end_build, build)

    for viewer in viewers:
        ids = [data["id"] for kind, data in viewer.rest() if kind == "output"]
        assert len(ids) == 1500
        assert ids == sorted(set(ids))


@pytest.mark.race
def test_a_line_reaches_20_viewers_within_300_ms_and_one_thread_reads_for_all(portal, sessions):
    build = portal.call(begin_build)
    viewers = [Viewer(portal, sessions["alice"], build) for _ in range(20)]
    for viewer in viewers:
        viewer.next_event()
    threads = portal.thread_count()
    arrived: list[list[float]] = [[] for _ in viewers]

    def listen(viewer: Viewer, moments: list[float]) -> None:
        for _ in range(30):
            viewer.outputs(1)
            moments.append(time.time())

    listeners = [
        threading.Thread(target=listen, args=pair) for pair in zip(viewers, arrived, strict=True)
    ]
    for listener in listeners:
        listener.start()
    written = portal.call(write_timed, build, 30, 0.04)
    for listener in listeners:
        listener.join(20)
    delays = sorted(
        moment - begun
        for moments in arrived
        for begun, moment in zip(written, moments, strict=True)
    )

    p95 = delays[int(len(delays) * 0.95)]
    print(f"log line to 20 viewers: p50 {delays[300] * 1000:.0f} ms, p95 {p95 * 1000:.0f} ms")
    assert p95 < 0.3
    one = Viewer(portal, sessions["alice"], build)
    one.next_event()
    assert portal.thread_count() <= threads + 2


# ---- Rules --------------------------------------------------------------------------------------


def test_a_slow_viewer_is_ended_and_told_nothing_out_of_order():
    async def story() -> list[bytes]:
        hub = streams.BuildHub(uuid.uuid4())
        slow = streams.BuildSubscriber()
        for number in range(1, streaming.MAX_WAITING + 50):
            slow.put(number, b"piece\n\n")
        loop = asyncio.get_running_loop()
        loop.call_later(0.02, slow.put, 999, b"after\n\n")
        parts = [part async for part in streams._follow(hub, slow, 0)]
        hub.forget()
        return parts

    assert b"".join(asyncio.run(story())) == b""


def test_what_was_caught_up_is_not_told_again():
    async def story() -> list[bytes]:
        hub = streams.BuildHub(uuid.uuid4())
        viewer = streams.BuildSubscriber()
        viewer.put(5, b"five\n\n")
        viewer.put(0, b"state\n\n")
        viewer.put(6, b"six\n\n")
        asyncio.get_running_loop().call_later(0.02, viewer.end)
        parts = [part async for part in streams._follow(hub, viewer, 5)]
        hub.forget()
        return parts

    assert b"".join(asyncio.run(story())) == b"state\n\nsix\n\n"
