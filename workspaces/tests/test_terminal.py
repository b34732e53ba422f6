"""The web terminal on a real engine: whose shell it is, what it shows, and that none stays."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from workspaces.tests import servers
from workspaces.tests.servers import Portal, make_person, running_portal, sign_in, sign_out

IMAGE = os.environ.get("DS01_TEST_IMAGE", "ds01/demo-python:1")
CHECK_EVERY = 1.0

pytestmark = pytest.mark.engine


@dataclass
class Box:
    """A running container, and who may do what with it."""

    portal: Portal
    pk: str
    engine_name: str
    uid: int
    sessions: dict[str, str]

    def path(self) -> str:
        return f"ws://{self.portal.host}/ws/containers/{self.pk}/terminal"

    def processes(self, mark: str) -> list[str]:
        """Return the command lines inside that contain `mark`."""
        return [line for line in self.portal.call(list_processes, self.pk) if mark in line]

    def await_no_process(self, mark: str, seconds: float = 6) -> None:
        deadline = time.monotonic() + seconds
        while (left := self.processes(mark)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert left == []


class Terminal:
    """The browser's side of one terminal."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.seen = b""
        self.frames: list[dict[str, Any]] = []

    async def __aenter__(self) -> Terminal:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.socket.close()

    async def send(self, text: str | bytes) -> None:
        await self.socket.send(text.encode() if isinstance(text, str) else text)

    async def tell(self, **frame: Any) -> None:
        await self.socket.send(json.dumps(frame))

    async def step(self) -> None:
        frame = await self.socket.recv()
        if isinstance(frame, bytes):
            self.seen += frame
        else:
            self.frames.append(json.loads(frame))

    async def until(self, wanted: str, seconds: float = 10) -> str:
        """Return what was shown up to `wanted`, and forget it."""
        mark = wanted.encode()
        try:
            async with asyncio.timeout(seconds):
                while mark not in self.seen:
                    await self.step()
        except TimeoutError:
            raise AssertionError(f"{wanted!r} did not come: {self.seen[-500:]!r}") from None
        shown, _, self.seen = self.seen.partition(mark)
        return (shown + mark).decode()

    async def frame(self, kind: str, seconds: float = 10) -> dict[str, Any]:
        """Return the next text frame of that kind."""
        async with asyncio.timeout(seconds):
            while not any(one["type"] == kind for one in self.frames):
                await self.step()
        return next(one for one in self.frames if one["type"] == kind)

    async def end(self, seconds: float = 10) -> tuple[dict[str, Any] | None, int]:
        """Return the last text frame but pings, and the close code."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    await self.step()
        except ConnectionClosed:
            told = [one for one in self.frames if one["type"] not in ("ping", "ready")]
            code = self.socket.close_code
            assert code is not None
            return (told[-1] if told else None), code


async def dial(
    box: Box, person: str, *, origin: str = "", size: tuple[int, int] | None = (80, 24)
) -> Terminal:
    """Open a terminal as a page of the portal does."""
    headers = {"Cookie": f"sessionid={box.sessions.get(person, '')}"}
    socket = await connect(
        box.path(),
        origin=origin or box.portal.url,
        additional_headers=headers,
        proxy=None,
        max_size=None,
        open_timeout=20,
    )
    terminal = Terminal(socket)
    if size is not None:
        with contextlib.suppress(ConnectionClosed):  # refused already
            await terminal.tell(type="resize", cols=size[0], rows=size[1])
    return terminal


async def dial_ready(box: Box, person: str = "alice", **options: Any) -> Terminal:
    terminal = await dial(box, person, **options)
    await terminal.frame("ready")
    return terminal


def play(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 60))


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    engine = servers.has_engine()
    environment = {
        "DOCKER_HOST": engine,
        "DS01_NETWORK_RANGE": os.environ.get("DS01_NETWORK_RANGE", "10.215.0.0/16"),
        "DS01_MEMLOCK": "65536",
        "DS01_DISK_FLOOR": "0",
    }
    settings = {"DS01_TERMINAL_CHECK": CHECK_EVERY}
    folder = tmp_path_factory.mktemp("terminal")
    folder.parent.chmod(0o755)
    with running_portal(folder, environment=environment, settings=settings) as portal:
        try:
            yield portal
        finally:
            portal.call(remove_all)


@pytest.fixture(scope="module")
def box(portal: Portal) -> Box:
    """Launch a container for Alice, as the worker does."""
    for name in ("alice", "charlie"):
        portal.call(make_person, name)
    portal.call(make_person, "ada", staff=True)
    pk, engine_name, uid = portal.call(launch, "alice", f"term-{secrets.token_hex(3)}", IMAGE)
    sessions = {name: portal.call(sign_in, name) for name in ("alice", "charlie", "ada")}
    return Box(portal, pk, engine_name, uid, sessions)


# ---- The shell ------------------------------------------------------------------------------


def test_a_shell_is_the_owners_in_the_workspace(box):
    async def story() -> None:
        async with await dial_ready(box) as terminal:
            await terminal.send("echo who=$(id -u):$(id -un) in=$(pwd) sh=$0 t=$TERM h=$HOME.\n")
            line = await terminal.until("t=xterm-256color h=/home/alice.")
            assert f"who={box.uid}:alice in=/workspace sh=bash" in line

    play(story)


def test_the_size_is_that_of_the_window_and_follows_it(box):
    async def story() -> None:
        async with await dial_ready(box, size=(93, 17)) as terminal:
            await terminal.send("echo first=$(stty size | tr ' ' x).\n")
            await terminal.until("first=17x93.")
            for columns in range(100, 140):  # as while a window is dragged
                await terminal.tell(type="resize", cols=columns, rows=41)
            deadline = time.monotonic() + 5
            while time.monotonic() < deadline:
                await terminal.send("echo now=$(stty size | tr ' ' x).\n")
                if "now=41x139." in await terminal.until(".\r\n"):
                    return
            raise AssertionError("the size did not follow")

    play(story)


def test_a_key_comes_back_at_once(box):
    async def story() -> None:
        async with await dial_ready(box) as terminal:
            await terminal.send("echo rea''dy; cat\n")
            await terminal.until("ready\r\n")
            await asyncio.sleep(0.3)
            delays = []
            for _ in range(50):
                begun = time.monotonic()
                await terminal.send("k")
                await terminal.until("k")
                delays.append((time.monotonic() - begun) * 1000)
            median = statistics.median(delays)
            print(f"key to echo: median {median:.1f} ms, most {max(delays):.1f} ms")
            assert median < 50

    play(story)


def test_text_of_all_the_world_comes_back_as_it_was(box):
    async def story() -> None:
        async with await dial_ready(box) as terminal:
            # `cat` must run: a line typed while bash still edits is one to the kernel no more.
            await terminal.send("echo rea''dy; cat\n")
            await terminal.until("ready\r\n")
            await asyncio.sleep(0.3)
            for byte in "äöü€🙂日本\n".encode():  # in pieces, as a slow line would
                await terminal.send(bytes([byte]))
            await terminal.until("äöü€🙂日本\r\näöü€🙂日本\r\n")
            await terminal.send(b"\x03")

    play(story)


def test_what_is_typed_before_the_shell_is_ready_is_not_lost(box):
    async def story() -> None:
        async with await dial(box, "alice") as terminal:
            await terminal.send("echo early=$((40+2)).\n")
            await terminal.until("early=42.")

    play(story)


def test_without_a_size_a_shell_opens_all_the_same(box):
    async def story() -> None:
        async with await dial_ready(box, size=None) as terminal:
            await terminal.send("echo size=$(stty size | tr ' ' x).\n")
            await terminal.until("size=24x80.")

    play(story)


def test_several_terminals_are_several_shells(box):
    async def story() -> None:
        terminals = await asyncio.gather(*(dial_ready(box) for _ in range(5)))
        numbers = set()
        for terminal in terminals:
            await terminal.send("echo tty=$(tty | tr -d a-z/).\n")
            await terminal.until("\rtty=")
            numbers.add(await terminal.until("."))
        assert len(numbers) == 5
        await asyncio.gather(*(terminal.socket.close() for terminal in terminals))

    play(story)


def test_a_flood_is_passed_whole_and_interrupts_get_through(box):
    async def story() -> None:
        async with await dial_ready(box) as terminal:
            await terminal.send(
                "stty -echo; head -c 3000000 /dev/zero | tr '\\0' x; echo done=$?.\n"
            )
            shown = await terminal.until("done=0.", 30)
            assert shown.count("x") >= 3_000_000
            await terminal.send("yes\n")
            await terminal.until("y\r\ny\r\n")
            await terminal.send(b"\x03")
            await terminal.send("echo calm=$((1+1)).\n")
            await terminal.until("calm=2.", 30)

    play(story)


def test_a_browser_that_does_not_read_stops_the_program_not_the_portal(box):
    async def story() -> None:
        async with await dial_ready(box) as slow, await dial_ready(box) as other:
            slow.socket.transport.pause_reading()
            await slow.send("yes aFloodOfWords\n")
            await asyncio.sleep(2)
            memory = resident_bytes(box.portal)
            await asyncio.sleep(2)
            assert resident_bytes(box.portal) - memory < 8 * 1024**2
            begun = time.monotonic()
            await other.send("echo quick=$((2+2)).\n")
            await other.until("quick=4.")
            assert time.monotonic() - begun < 2
            slow.socket.transport.abort()

    play(story)
    box.await_no_process("aFloodOfWords")


def test_input_that_nobody_reads_ends_the_terminal_not_the_portal(box):
    async def story() -> None:
        async with await dial_ready(box) as terminal:
            await terminal.send("stty raw -echo; sleep 4321\n")
            await asyncio.sleep(0.3)
            with contextlib.suppress(ConnectionClosed):
                for _ in range(100):
                    await terminal.send(b"z" * 100_000)
            told, code = await terminal.end(20)
            assert code == 4413
            assert "does not read" in told["message"]

    play(story)
    box.await_no_process("sleep 4321")


# ---- Ends -----------------------------------------------------------------------------------


def test_leaving_the_shell_tells_its_exit_code(box):
    async def story() -> None:
        terminal = await dial_ready(box)
        await terminal.send("exit 7\n")
        told, code = await terminal.end()
        assert told == {"type": "exit", "code": 7, "reason": ""}
        assert code == 1000

    play(story)


def test_a_background_job_does_not_keep_a_left_shell_open(box):
    async def story() -> None:
        terminal = await dial_ready(box)
        await terminal.send("sleep 3141592 & exit 3\n")
        told, _ = await terminal.end()
        assert told["code"] == 3

    play(story)


@pytest.mark.parametrize("how", ["close", "vanish", "at once"])
def test_closing_the_page_leaves_no_process(box, how):
    mark = f"sleep {secrets.randbelow(10**6) + 10**6}"

    async def story() -> None:
        terminal = await dial_ready(box) if how != "at once" else await dial(box, "alice")
        await terminal.send(f"{mark}\n")
        if how != "at once":
            while not box.processes(mark):
                await asyncio.sleep(0.05)
        if how == "vanish":
            terminal.socket.transport.abort()
        else:
            await terminal.socket.close()

    play(story)
    box.await_no_process(mark)
    box.await_no_process("bash", 6) if how == "close" else None


def test_a_program_that_ignores_the_hangup_ends_too(box):
    async def story() -> None:
        terminal = await dial_ready(box)
        await terminal.send("trap '' HUP; exec python3 -c 'import time; time.sleep(98765)'\n")
        while not box.processes("98765"):
            await asyncio.sleep(0.05)
        await terminal.socket.close()

    play(story)
    box.await_no_process("98765")


def test_signing_out_closes_the_terminal(box):
    mark = "sleep 7654321"
    session = box.portal.call(sign_in, "alice")
    there = Box(box.portal, box.pk, box.engine_name, box.uid, {"alice": session})

    async def story() -> None:
        terminal = await dial_ready(there)
        await terminal.send(f"{mark}\n")
        await asyncio.sleep(2 * CHECK_EVERY)
        assert {"type": "ping"} in terminal.frames or await terminal.frame("ping")
        box.portal.call(sign_out, session)
        told, code = await terminal.end()
        assert told["message"] == "You signed out, so the terminal was closed."
        assert code == 4401

    play(story)
    box.await_no_process(mark)


def test_a_container_given_to_somebody_else_closes_the_terminal(box):
    async def story() -> None:
        terminal = await dial_ready(box)
        box.portal.call(give_to, box.pk, "charlie")
        try:
            told, code = await terminal.end()
        finally:
            box.portal.call(give_to, box.pk, "alice")
        assert "not yours any more" in told["message"]
        assert code == 4404

    play(story)


def test_the_server_ends_with_shells_open_and_leaves_none(box):
    mark = "sleep 5647382"

    async def story() -> None:
        terminals = [await dial_ready(box) for _ in range(3)]
        for terminal in terminals:
            await terminal.send(f"{mark}\n")
        while len(box.processes(mark)) < 3:
            await asyncio.sleep(0.05)
        stopping = asyncio.create_task(asyncio.to_thread(box.portal.stop))
        ends = [await terminal.end() for terminal in terminals]
        took.append(await stopping)
        assert ends == [(None, 1012)] * 3, "1012 makes the page come back"

    took: list[float] = []
    try:
        play(story)
    finally:
        box.portal.start()
    assert took[0] < 4.5, "gunicorn kills after five seconds"
    box.await_no_process(mark)


def test_a_container_that_stops_says_so(box):
    async def story() -> None:
        pk, _, _ = box.portal.call(launch, "alice", f"stop-{secrets.token_hex(3)}", IMAGE)
        other = Box(box.portal, pk, "", box.uid, box.sessions)
        terminal = await dial_ready(other)
        await asyncio.to_thread(box.portal.call, stop_on_engine, pk)
        told, code = await terminal.end()
        assert told["type"] == "exit"
        assert told["reason"].endswith(" was stopped.")
        assert code == 1000

        told, code = await (await dial(other, "alice")).end()
        assert code == 4409
        assert told["message"].endswith(" was stopped. Start it first.")

    play(story)


# ---- Who may --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("person", "code", "words"),
    [("charlie", 4404, "There is no such container."), ("nobody", 4401, "Sign in again")],
)
def test_others_are_refused_in_words(box, person, code, words):
    async def story() -> None:
        told, closed = await (await dial(box, person)).end()
        assert told["type"] == "error"
        assert told["message"].startswith(words)
        assert closed == code

    play(story)


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_pages_of_other_sites_are_kept_out(box, origin):
    async def story() -> None:
        with pytest.raises(InvalidStatus) as refused:
            await dial(box, "alice", origin=origin)
        assert refused.value.response.status_code == 403

    play(story)


def test_an_admin_gets_the_owners_shell_and_the_owner_reads_of_it(box):
    async def story() -> None:
        async with await dial_ready(box, "ada") as terminal:
            await terminal.send("echo who=$(id -u).\n")
            await terminal.until(f"who={box.uid}.")

    before = box.portal.call(list_verbs, box.pk)
    play(story)
    after = box.portal.call(list_verbs, box.pk)
    assert after[len(before) :] == [("terminal opened by admin", "ada", "alice")]


def test_a_stopped_container_says_what_to_do(box):
    box.portal.call(set_state, box.pk, "stopped")

    async def story() -> None:
        told, code = await (await dial(box, "alice")).end()
        assert told["message"].endswith("a terminal needs it running. Start it first.")
        assert code == 4409

    try:
        play(story)
    finally:
        box.portal.call(set_state, box.pk, "running")


def test_the_twenty_first_terminal_is_refused(box):
    async def story() -> None:
        terminals = await asyncio.gather(*(dial(box, "alice") for _ in range(20)))
        await asyncio.gather(*(one.frame("ready", 40) for one in terminals))
        told, code = await (await dial(box, "alice")).end()
        assert code == 4429
        assert told["message"].startswith("You have 20 terminals open already. Close one")

        await terminals.pop().socket.close()
        await asyncio.sleep(1)
        async with await dial_ready(box):
            pass
        await asyncio.gather(*(one.socket.close() for one in terminals))

    play(story)
    box.await_no_process("bash", 20)


@pytest.mark.parametrize("frame", ["no json", "[]", '{"type": "resize"}', '{"cols": 1}'])
def test_a_frame_nobody_knows_ends_the_terminal(box, frame):
    async def story() -> None:
        terminal = await dial_ready(box)
        await terminal.socket.send(frame)
        told, code = await terminal.end()
        assert code == 4400
        assert told["type"] == "error"

    play(story)


def resident_bytes(portal: Portal) -> int:
    pages = int(Path(f"/proc/{portal.worker_pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# ---- In the portal's helper process -----------------------------------------------------------


def launch(username: str, name: str, reference: str) -> tuple[str, str, int]:
    """Launch a container and return its id, its name on the engine and its owner's uid."""
    from catalog.models import Image
    from ds01portal.engine import get_engine
    from ds01portal.models import Person
    from workspaces.services.carrying import carry_out_due
    from workspaces.services.containers import launch_container
    from workspaces.services.launch_images import image_fields
    from workspaces.services.machine import refresh_machine
    from workspaces.services.requests import LaunchRequest

    refresh_machine()
    found = get_engine().inspect_image(reference)
    image, _ = Image.objects.get_or_create(
        kind="local", reference=reference, defaults={"engine_image_id": found.id}
    )
    person = Person.objects.get(username=username)
    request = LaunchRequest(
        owner=person, name=name, cpus=0.5, memory=256 * 1024**2, **image_fields(image)
    )
    container = launch_container(request=request, actor=person)
    carry_out_due()
    container.refresh_from_db()
    assert container.state == "running", container.error
    person.refresh_from_db()
    return str(container.pk), container.engine_name, int(person.uid or 0)


def engine_id(pk: str) -> str:
    from workspaces.models import Container

    return Container.objects.get(pk=pk).engine_name


def list_processes(pk: str) -> list[str]:
    """Return the command lines of the container, without its own main process."""
    from ds01portal.engine import get_engine

    script = (
        "for d in /proc/[0-9]*; do "
        'read -r s < "$d/stat" || continue; set -- ${s##*) }; '
        '[ "$2" = 0 ] && [ "${d#/proc/}" != 1 ] || [ "$2" -gt 1 ] || continue; '
        'tr "\\0" " " < "$d/cmdline"; echo; done 2>/dev/null'
    )
    _, output = get_engine().run_command(engine_id(pk), ("sh", "-c", script))
    lines = output.decode(errors="replace").splitlines()
    return [line for line in lines if line.strip() and "for d in" not in line]


def stop_on_engine(pk: str) -> None:
    from ds01portal.engine import get_engine

    get_engine().stop_container(engine_id(pk), timeout=1)


def set_state(pk: str, state: str) -> None:
    from workspaces.models import Container

    Container.objects.filter(pk=pk).update(state=state)


def give_to(pk: str, username: str) -> None:
    from ds01portal.models import Person
    from workspaces.models import Container

    Container.objects.filter(pk=pk).update(owner=Person.objects.get(username=username))


def list_verbs(pk: str) -> list[tuple[str, str, str]]:
    from ds01portal.models import Event

    rows = Event.objects.filter(subject_id=pk, verb__startswith="terminal").order_by("id")
    return list(rows.values_list("verb", "actor__username", "owner__username"))


def remove_all() -> None:
    """Remove what this portal has launched, and nothing else."""
    from ds01portal.engine import get_engine
    from workspaces.models import Container
    from workspaces.services.specs import network_name, run_reference

    engine = get_engine()
    for container in Container.objects.select_related("owner"):
        engine.remove_container(container.engine_name, force=True)
        engine.untag_image(run_reference(container.image_reference, container.engine_name))
        if container.owner:
            engine.remove_network_if_unused(network_name(container.owner))
