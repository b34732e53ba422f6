"""What every container engine must do, told once and run on the fake and on real Docker.

A rig gives the engine, images that exist on it, and a place to pull from. Names and labels
carry a run id, so that several runs can share one engine.
"""

from __future__ import annotations

import datetime as dt
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ds01portal.engine.base import (
    ContainerEngine,
    ContainerSpec,
    EngineEvent,
    ImageConfig,
    Mount,
    Observed,
    PullProgress,
    StepSpec,
    TarEntry,
    TerminalSession,
)
from ds01portal.exceptions import (
    EngineConflict,
    EngineError,
    EngineTimeout,
    EngineUnreachable,
    ImagePullFailed,
    MissingOnEngine,
    RlimitRefused,
)

HUGE_UID = 1722830498
MIB = 1_048_576


@dataclass
class Rig:
    """One engine to test, and what is on it."""

    engine: ContainerEngine
    run_id: str
    image: str  # has sh, cat, stty
    workspace: Path  # exists on the engine's host
    subnets: tuple[str, ...]
    unreachable: Callable[[], ContainerEngine]
    remote_image: str = ""
    slow_remote_image: str = ""
    networks: list[str] = field(default_factory=list)
    plan_step: Callable[..., None] = lambda **_: None  # tells a fake how a build step ends

    @property
    def label(self) -> str:
        return f"ds01.test={self.run_id}"

    def name(self, stem: str) -> str:
        return f"{stem}-{self.run_id}._.{HUGE_UID}"

    def network(self, stem: str = "net") -> str:
        name = f"{stem}-{self.run_id}"
        self.engine.ensure_network(name, subnets=iter(self.subnets), labels=self.labels)
        return name

    @property
    def labels(self) -> dict[str, str]:
        return {"ds01.test": self.run_id}

    def spec(self, stem: str = "box", **changes: Any) -> ContainerSpec:
        base = ContainerSpec(
            name=self.name(stem),
            image=self.image,
            hostname="box",
            user=f"{HUGE_UID}:{HUGE_UID}",
            command=("sh",),
            working_dir="/workspace",
            environment={"LANG": "C.UTF-8", "NVIDIA_VISIBLE_DEVICES": "void"},
            labels={**self.labels, "aime.mlc.USER": "alice"},
            mounts=(Mount(source=str(self.workspace), target="/workspace"),),
            network=self.network(),
            cpus=1.5,
            memory=128 * MIB,
            memory_swap=192 * MIB,
            shm_size=32 * MIB,
            pids_limit=64,
            memlock=None,
            stop_timeout=1,
        )
        return replace(base, **changes)

    def running(self, stem: str = "box", **changes: Any) -> str:
        container = self.engine.create_container(self.spec(stem, **changes))
        self.engine.start_container(container)
        return container


def read_until(
    terminal: TerminalSession, wanted: bytes | re.Pattern[bytes], seconds: float = 10
) -> bytes:
    """Return what a terminal shows up to and including `wanted`."""
    pattern = wanted if isinstance(wanted, re.Pattern) else re.compile(re.escape(wanted))
    seen = b""
    done = threading.Event()

    def pump() -> None:
        nonlocal seen
        while not pattern.search(seen):
            data = terminal.read()
            if not data:
                return
            seen += data
        done.set()

    thread = threading.Thread(target=pump, daemon=True)
    thread.start()
    assert done.wait(seconds), f"{wanted!r} did not come; seen: {seen!r}"
    return seen


def open_shell(rig: Rig, container: str, *, columns: int = 93, rows: int = 17) -> TerminalSession:
    return rig.engine.open_terminal(
        container,
        ("sh",),
        user=f"{HUGE_UID}:{HUGE_UID}",
        working_dir="/workspace",
        environment={"TERM": "dumb", "LANG": "C.UTF-8"},
        columns=columns,
        rows=rows,
    )


class EngineContract:
    """Inherit, and give a fixture `rig`."""

    # A container's life

    def test_a_container_is_created_started_stopped_and_removed(self, rig: Rig) -> None:
        engine = rig.engine
        container = engine.create_container(rig.spec())
        created = engine.inspect_container(container)
        assert created.state is Observed.CREATED
        assert created.exit_code is None
        assert created.started_at is None
        assert created.finished_at is None

        engine.start_container(container)
        running = engine.inspect_container(rig.name("box"))
        assert running.id == container
        assert running.state is Observed.RUNNING
        assert running.pid > 0
        assert running.started_at is not None
        assert abs(running.started_at - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=5)

        engine.stop_container(container, timeout=1)
        stopped = engine.inspect_container(container)
        assert stopped.state is Observed.EXITED
        assert stopped.exit_code is not None
        assert stopped.finished_at is not None

        engine.remove_container(container)
        with pytest.raises(MissingOnEngine):
            engine.inspect_container(container)

    def test_every_verb_may_be_repeated(self, rig: Rig) -> None:
        engine = rig.engine
        container = engine.create_container(rig.spec())
        for verb, state in (
            (engine.start_container, Observed.RUNNING),
            (engine.pause_container, Observed.PAUSED),
            (engine.resume_container, Observed.RUNNING),
        ):
            verb(container)
            verb(container)
            assert engine.inspect_container(container).state is state
        for _ in range(2):
            engine.stop_container(container, timeout=1)
        for _ in range(2):
            engine.remove_container(container)

    def test_what_is_missing_is_stopped_and_removed_already(self, rig: Rig) -> None:
        rig.engine.stop_container("nobody-of-that-name")
        rig.engine.remove_container("nobody-of-that-name", force=True)

    def test_what_is_missing_cannot_be_started_or_looked_into(self, rig: Rig) -> None:
        engine = rig.engine
        for verb in (
            engine.start_container,
            engine.restart_container,
            engine.pause_container,
            engine.resume_container,
            engine.inspect_container,
            engine.read_usage,
            engine.read_logs,
        ):
            with pytest.raises(MissingOnEngine):
                verb("nobody-of-that-name")  # type: ignore[operator]
        with pytest.raises(MissingOnEngine):
            engine.run_command("nobody-of-that-name", ("true",))
        with pytest.raises(MissingOnEngine):
            engine.put_files("nobody-of-that-name", (TarEntry(path="/x", content=b""),))
        with pytest.raises(MissingOnEngine):
            open_shell(rig, "nobody-of-that-name")

    def test_a_name_is_given_once(self, rig: Rig) -> None:
        rig.engine.create_container(rig.spec())
        with pytest.raises(EngineConflict):
            rig.engine.create_container(rig.spec())

    def test_an_image_that_is_not_there_is_missing(self, rig: Rig) -> None:
        with pytest.raises(MissingOnEngine):
            rig.engine.create_container(rig.spec(image="ds01/nothing:0"))

    def test_a_missing_network_does_not_mean_a_missing_container(self, rig: Rig) -> None:
        container = rig.engine.create_container(rig.spec(network=f"nowhere-{rig.run_id}"))
        with pytest.raises(EngineError) as refused:
            rig.engine.start_container(container)
        assert not isinstance(refused.value, MissingOnEngine)
        assert rig.engine.inspect_container(container).state is Observed.CREATED

    def test_a_mount_of_a_missing_directory_is_refused_and_not_made(self, rig: Rig) -> None:
        missing = rig.workspace / "missing"
        mounts = (Mount(source=str(missing), target="/workspace"),)
        with pytest.raises(EngineError, match="could not create") as refused:
            rig.engine.create_container(rig.spec(mounts=mounts))
        assert "does not exist" in refused.value.cause
        assert not missing.exists()

    @pytest.mark.parametrize("network", ["host", "", "default", "container:box", "ns:/proc/1/ns"])
    def test_a_network_of_the_host_is_refused(self, rig: Rig, network: str) -> None:
        with pytest.raises(EngineError):
            rig.engine.create_container(rig.spec(network=network))

    def test_a_running_container_is_removed_by_force_only(self, rig: Rig) -> None:
        container = rig.running()
        with pytest.raises(EngineConflict):
            rig.engine.remove_container(container)
        rig.engine.remove_container(container, force=True)
        with pytest.raises(MissingOnEngine):
            rig.engine.inspect_container(container)

    def test_a_paused_container_can_be_stopped(self, rig: Rig) -> None:
        container = rig.running()
        rig.engine.pause_container(container)
        rig.engine.stop_container(container, timeout=1)
        assert rig.engine.inspect_container(container).state is Observed.EXITED

    def test_a_stopped_container_can_be_neither_paused_nor_entered(self, rig: Rig) -> None:
        container = rig.engine.create_container(rig.spec())
        for attempt in (
            lambda: rig.engine.pause_container(container),
            lambda: rig.engine.resume_container(container),
            lambda: rig.engine.run_command(container, ("true",)),
            lambda: open_shell(rig, container),
        ):
            with pytest.raises(EngineConflict):
                attempt()

    def test_restart_gives_a_fresh_process(self, rig: Rig) -> None:
        container = rig.running()
        before = rig.engine.inspect_container(container)
        rig.engine.restart_container(container, timeout=1)
        after = rig.engine.inspect_container(container)
        assert after.state is Observed.RUNNING
        assert (after.pid, after.started_at) != (before.pid, before.started_at)

    # What a container is allowed

    def test_the_launch_specification_holds_on_the_inspected_container(self, rig: Rig) -> None:
        mounts = (
            Mount(source=str(rig.workspace), target="/workspace"),
            Mount(source=str(rig.workspace), target="/data", read_only=True),
        )
        devices = ("GPU-11111111-2222", "MIG-33333333-4444")
        spec = rig.spec(mounts=mounts, devices=devices)
        container = rig.engine.create_container(spec)
        rig.engine.start_container(container)

        seen = rig.engine.inspect_container(container)
        host = seen.raw["HostConfig"]
        assert host["Privileged"] is False
        assert host["CapDrop"] == ["ALL"]
        assert not host["CapAdd"]
        assert host["SecurityOpt"] == ["no-new-privileges"]
        assert host["NetworkMode"] == spec.network
        assert host["IpcMode"] == "private"
        assert host["PidMode"] == host["UTSMode"] == host["UsernsMode"] == ""
        assert host["CgroupnsMode"] == "private"
        assert not host["PortBindings"]
        assert host["PublishAllPorts"] is False
        assert not host["Devices"]
        assert not host["Binds"]
        assert host["Init"] is True
        assert host["AutoRemove"] is False
        assert host["RestartPolicy"]["Name"] in ("", "no")
        assert host["NanoCpus"] == 1_500_000_000
        assert host["Memory"] == 128 * MIB
        assert host["MemorySwap"] == 192 * MIB
        assert host["ShmSize"] == 32 * MIB
        assert host["PidsLimit"] == 64
        assert [(u["Name"], u["Soft"], u["Hard"]) for u in host["Ulimits"]] == [
            ("stack", 67_108_864, 67_108_864)
        ]
        assert host["LogConfig"] == {
            "Type": "json-file",
            "Config": {"max-size": "10m", "max-file": "3"},
        }
        (request,) = host["DeviceRequests"]
        assert request["DeviceIDs"] == list(devices)
        assert request["Capabilities"] == [["gpu"]]
        assert request["Count"] == 0
        assert {mount["Propagation"] for mount in seen.raw["Mounts"]} == {"rprivate"}
        config = seen.raw["Config"]
        assert config["Tty"] is True
        assert config["OpenStdin"] is True
        assert config["StopTimeout"] == 1
        assert config["Labels"].items() >= spec.labels.items()

        assert seen.user == f"{HUGE_UID}:{HUGE_UID}"
        assert seen.devices == devices
        assert seen.all_devices is False
        assert set(seen.mounts) == set(mounts)
        assert seen.cpus == 1.5
        assert seen.memory == 128 * MIB
        assert seen.environment["NVIDIA_VISIBLE_DEVICES"] == "void"

    def test_without_devices_none_is_asked_for(self, rig: Rig) -> None:
        seen = rig.engine.inspect_container(rig.engine.create_container(rig.spec()))
        assert not seen.raw["HostConfig"]["DeviceRequests"]
        assert seen.raw["HostConfig"]["Runtime"] == rig.engine.info().default_runtime
        assert (seen.devices, seen.all_devices, seen.device_count) == ((), False, 0)

    def test_unlimited_memlock_runs_or_is_refused_as_such(self, rig: Rig) -> None:
        container = rig.engine.create_container(rig.spec(memlock=-1))
        limits = rig.engine.inspect_container(container).raw["HostConfig"]["Ulimits"]
        assert ("memlock", -1, -1) in [(u["Name"], u["Soft"], u["Hard"]) for u in limits]
        try:
            rig.engine.start_container(container)
            expected = Observed.RUNNING
        except RlimitRefused as refused:
            assert "rlimit" in refused.cause
            expected = Observed.CREATED
        assert rig.engine.inspect_container(container).state is expected

    # Listing

    def test_one_listing_shows_containers_in_every_state(self, rig: Rig) -> None:
        created = rig.engine.create_container(rig.spec("a"))
        running = rig.running("b")
        paused = rig.running("c")
        rig.engine.pause_container(paused)
        stopped = rig.running("d")
        rig.engine.stop_container(stopped, timeout=1)

        rows = {row.id: row for row in rig.engine.list_containers()}
        assert rows[created].state is Observed.CREATED
        assert rows[running].state is Observed.RUNNING
        assert rows[paused].state is Observed.PAUSED
        assert rows[stopped].state is Observed.EXITED
        row = rows[running]
        assert row.name == rig.name("b")
        assert row.image == rig.image
        assert row.image_id == rig.engine.inspect_image(rig.image).id
        assert row.labels["aime.mlc.USER"] == "alice"
        assert row.created_at.tzinfo is not None

    # Inside

    def test_files_can_be_put_into_a_container_that_never_ran(self, rig: Rig) -> None:
        container = rig.engine.create_container(rig.spec())
        rig.engine.put_files(
            container,
            (
                TarEntry(path="/home/alice", content=None, uid=HUGE_UID, gid=HUGE_UID, mode=0o750),
                TarEntry(path="/home/alice/.greeting", content="grüß dich".encode()),
            ),
        )
        rig.engine.start_container(container)
        code, output = rig.engine.run_command(container, ("cat", "/home/alice/.greeting"))
        assert (code, output.decode()) == (0, "grüß dich")

    def test_a_command_inside_returns_its_code_and_output(self, rig: Rig) -> None:
        container = rig.running()
        assert rig.engine.run_command(container, ("echo", "hello")) == (0, b"hello\n")
        assert rig.engine.run_command(container, ("sh", "-c", "echo x; exit 3")) == (3, b"x\n")
        assert rig.engine.run_command(container, ("id", "-u"))[1] == f"{HUGE_UID}\n".encode()
        assert rig.engine.run_command(container, ("id", "-u"), user="0")[1] == b"0\n"
        assert rig.engine.run_command(container, ("no-such-command",))[0] == 127

    def test_a_command_that_takes_too_long_times_out(self, rig: Rig) -> None:
        container = rig.running()
        began = time.monotonic()
        with pytest.raises(EngineTimeout):
            rig.engine.run_command(container, ("sleep", "60"), timeout=0.5)
        assert time.monotonic() - began < 5

    def test_figures_of_a_running_container_grow_and_a_stopped_one_has_none(self, rig: Rig) -> None:
        container = rig.running()
        first = rig.engine.read_usage(container)
        second = rig.engine.read_usage(container)
        assert first.cpu_nanoseconds is not None
        assert second.cpu_nanoseconds is not None
        assert second.cpu_nanoseconds >= first.cpu_nanoseconds
        assert second.read_at >= first.read_at
        assert first.memory_bytes
        assert first.memory_limit_bytes == 128 * MIB
        assert first.network_sent_bytes is not None
        assert first.pids

        rig.engine.stop_container(container, timeout=1)
        stopped = rig.engine.read_usage(container)
        assert stopped.cpu_nanoseconds is None
        assert stopped.memory_bytes is None

    # Terminal

    def test_a_terminal_speaks_utf8_and_knows_its_size(self, rig: Rig) -> None:
        terminal = open_shell(rig, rig.running())
        terminal.write("echo größer-eins-数据\n".encode())
        # The answer, not the echo: on a line of its own, or behind a prompt that came late.
        read_until(terminal, re.compile("(\n|[$#] )größer-eins-数据".encode()))
        terminal.write(b"stty size\n")
        read_until(terminal, b"17 93")
        terminal.resize(columns=120, rows=40)
        terminal.write(b"stty size\n")
        read_until(terminal, b"40 120")
        assert terminal.exit_code() is None
        assert terminal.fileno() > 0
        terminal.close()

    def test_a_shell_that_ends_ends_its_terminal(self, rig: Rig) -> None:
        terminal = open_shell(rig, rig.running())
        terminal.write(b"exit 7\n")
        while terminal.read():
            pass
        deadline = time.monotonic() + 5
        while terminal.exit_code() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert terminal.exit_code() == 7
        terminal.close()

    def test_a_closed_terminal_leaves_nothing_behind(self, rig: Rig) -> None:
        container = rig.running()
        terminal = open_shell(rig, container)
        terminal.write(b"sleep 4242\n")
        read_until(terminal, b"4242")
        terminal.close()
        terminal.close()  # repeated, as everything
        assert terminal.exit_code() is not None
        self.assert_no_shell(rig, container)

    def assert_no_shell(self, rig: Rig, container: str) -> None:
        raise NotImplementedError

    # Images

    def test_an_image_tells_about_itself(self, rig: Rig) -> None:
        image = rig.engine.inspect_image(rig.image)
        assert rig.image in image.tags
        assert image.size > 0
        assert image.id.startswith("sha256:")
        listed = [one for one in rig.engine.list_images() if one.id == image.id]
        assert listed[0].tags == image.tags
        with pytest.raises(MissingOnEngine):
            rig.engine.inspect_image("ds01/nothing:0")

    def test_a_tag_comes_and_goes_and_the_image_stays(self, rig: Rig) -> None:
        repository = rig.image.rpartition(":")[0]
        tag = f"{repository}:{rig.name('box')}"
        for _ in range(2):
            rig.engine.tag_image(rig.image, tag)
        assert rig.engine.inspect_image(tag).id == rig.engine.inspect_image(rig.image).id
        for _ in range(2):
            rig.engine.untag_image(tag)
        with pytest.raises(MissingOnEngine):
            rig.engine.inspect_image(tag)
        assert rig.engine.inspect_image(rig.image).size > 0

    def test_only_tags_can_be_removed_never_images(self, rig: Rig) -> None:
        image = rig.engine.inspect_image(rig.image).id
        for reference in (image, rig.image.rpartition(":")[0]):
            with pytest.raises(EngineError):
                rig.engine.untag_image(reference)
        assert rig.engine.inspect_image(rig.image).id == image

    def test_a_tag_of_a_missing_image_is_refused(self, rig: Rig) -> None:
        with pytest.raises(MissingOnEngine):
            rig.engine.tag_image("ds01/nothing:0", "ds01/other:0")

    def test_files_are_read_from_an_image_without_running_it(self, rig: Rig) -> None:
        before = {row.id for row in rig.engine.list_containers()}
        files = rig.engine.read_image_files(rig.image, ("/etc/passwd", "/etc/none-such"))
        assert list(files) == ["/etc/passwd"]
        assert b"root:" in files["/etc/passwd"]
        assert {row.id for row in rig.engine.list_containers()} <= before

    def test_a_pull_moves_one_figure_forward_to_the_end(self, rig: Rig) -> None:
        seen: list[PullProgress] = []
        image = rig.engine.pull_image(
            rig.remote_image, on_progress=seen.append, is_cancelled=lambda: False
        )
        assert rig.remote_image in image.tags
        figures = [one.percent for one in seen if one.percent is not None]
        assert figures == sorted(figures)
        assert figures[-1] == 100.0
        again = rig.engine.pull_image(
            rig.remote_image, on_progress=seen.append, is_cancelled=lambda: False
        )
        assert again.id == image.id
        rig.engine.untag_image(rig.remote_image)

    def test_a_pull_is_cancelled_at_once_though_nothing_flows(self, rig: Rig) -> None:
        cancelled = threading.Event()
        threading.Timer(0.3, cancelled.set).start()
        began = time.monotonic()
        with pytest.raises(ImagePullFailed) as failed:
            rig.engine.pull_image(
                rig.slow_remote_image, on_progress=lambda _: None, is_cancelled=cancelled.is_set
            )
        assert failed.value.fields["cancelled"] is True
        assert time.monotonic() - began < 0.9

    def test_a_pull_of_nothing_says_there_is_no_such_image(self, rig: Rig) -> None:
        with pytest.raises(ImagePullFailed) as failed:
            rig.engine.pull_image(
                f"{rig.remote_image.rpartition(':')[0]}:never-pushed",
                on_progress=lambda _: None,
                is_cancelled=lambda: False,
            )
        assert failed.value.fields["reason"] == "not-found"
        assert "cancelled" not in failed.value.fields

    # Networks

    def test_a_network_is_made_once_and_goes_when_unused(self, rig: Rig) -> None:
        name = rig.network("own")
        assert rig.network("own") == name
        assert rig.engine.list_networks(label=rig.label) == {name: (rig.subnets[0],)}
        container = rig.engine.create_container(rig.spec(network=name))
        assert rig.engine.remove_network_if_unused(name) is False  # created is use enough
        rig.engine.start_container(container)
        assert rig.engine.remove_network_if_unused(name) is False
        rig.engine.stop_container(container, timeout=1)
        assert rig.engine.remove_network_if_unused(name) is False
        rig.engine.remove_container(container)
        assert rig.engine.remove_network_if_unused(name) is True
        assert rig.engine.remove_network_if_unused(name) is True
        assert name not in rig.engine.list_networks(label=rig.label)

    def test_a_network_takes_the_next_subnet_when_one_overlaps(self, rig: Rig) -> None:
        first, second = rig.network("one"), rig.network("two")
        found = rig.engine.list_networks(label=rig.label)
        assert found == {first: (rig.subnets[0],), second: (rig.subnets[1],)}

    def test_no_free_subnet_is_an_error(self, rig: Rig) -> None:
        rig.network("one")
        with pytest.raises(EngineError):
            rig.engine.ensure_network(
                f"late-{rig.run_id}", subnets=iter(rig.subnets[:1]), labels=rig.labels
            )
        assert f"late-{rig.run_id}" not in rig.engine.list_networks(label=rig.label)

    def test_eight_at_once_make_one_network(self, rig: Rig) -> None:
        name = f"race-{rig.run_id}"

        def make(engine: ContainerEngine) -> None:
            engine.ensure_network(name, subnets=iter(rig.subnets), labels=rig.labels)

        with self.eight(rig) as engines, ThreadPoolExecutor(8) as pool:
            list(pool.map(make, engines))
        found = rig.engine.list_networks(label=rig.label)
        assert list(found) == [name]
        self.assert_one_network(rig, name)

    @contextmanager
    def eight(self, rig: Rig) -> Iterator[list[ContainerEngine]]:
        """Give engines of eight processes, as far as the rig can have them."""
        yield [rig.engine] * 8

    def assert_one_network(self, rig: Rig, name: str) -> None:
        raise NotImplementedError

    # Events

    def test_what_happens_is_told_in_order(self, rig: Rig) -> None:
        since = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
        name = rig.name("box")
        seen: list[EngineEvent] = []
        enough = threading.Event()

        def watch() -> None:
            for event in rig.engine.watch_events(since=since, should_stop=enough.is_set):
                if event.container_name == name:
                    seen.append(event)
                if event.action == "destroy" and event.container_name == name:
                    enough.set()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        container = rig.running()
        rig.engine.run_command(container, ("true",))
        rig.engine.stop_container(container, timeout=1)
        rig.engine.remove_container(container)
        watcher.join(10)
        assert not watcher.is_alive()
        actions = [event.action for event in seen]
        ordered = ["create", "start", "die", "destroy"]
        assert [action for action in actions if action in ordered] == ordered
        assert not [action for action in actions if action.startswith("exec")]
        assert {event.container_id for event in seen} == {container}
        assert seen[0].attributes["aime.mlc.USER"] == "alice"
        assert seen[0].time >= since

    def test_a_watcher_stops_when_told_though_nothing_happens(self, rig: Rig) -> None:
        stop = threading.Event()
        watcher = threading.Thread(
            target=lambda: list(rig.engine.watch_events(since=None, should_stop=stop.is_set)),
            daemon=True,
        )
        watcher.start()
        time.sleep(0.2)
        stop.set()
        watcher.join(0.7)
        assert not watcher.is_alive()

    # The engine itself

    def test_an_engine_tells_about_itself(self, rig: Rig) -> None:
        rig.engine.ping()
        info = rig.engine.info()
        assert info.version
        assert tuple(int(part) for part in info.api_version.split(".")) >= (1, 41)
        assert info.cpus > 0
        assert info.memory > 0
        assert info.default_runtime in info.runtimes

    def test_an_engine_that_is_down_is_unreachable_for_every_method(self, rig: Rig) -> None:
        spec = rig.spec()
        engine = rig.unreachable()
        for name, call in all_calls(engine, spec):
            with pytest.raises(EngineUnreachable) as failed:
                call()
            assert failed.value.cause, name


def all_calls(
    engine: ContainerEngine, spec: ContainerSpec
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield a call of every method of the contract; fail when one has been forgotten."""
    config = ImageConfig(environment={}, labels={}, working_dir="", command=("sh",))
    step = StepSpec(
        name="x",
        image="x:1",
        command="true",
        labels={"x": "y"},
        network="none",
        cpus=1,
        memory=MIB,
        memory_swap=MIB,
        pids_limit=1,
    )
    calls: dict[str, Callable[[], object]] = {
        "info": engine.info,
        "ping": engine.ping,
        "list_containers": engine.list_containers,
        "inspect_container": lambda: engine.inspect_container("x"),
        "create_container": lambda: engine.create_container(spec),
        "start_container": lambda: engine.start_container("x"),
        "stop_container": lambda: engine.stop_container("x"),
        "restart_container": lambda: engine.restart_container("x"),
        "pause_container": lambda: engine.pause_container("x"),
        "resume_container": lambda: engine.resume_container("x"),
        "remove_container": lambda: engine.remove_container("x"),
        "put_files": lambda: engine.put_files("x", ()),
        "read_logs": lambda: engine.read_logs("x"),
        "read_usage": lambda: engine.read_usage("x"),
        "run_command": lambda: engine.run_command("x", ("true",)),
        "open_terminal": lambda: engine.open_terminal(
            "x", ("sh",), user="", working_dir="/", environment={}, columns=80, rows=24
        ),
        "list_images": engine.list_images,
        "inspect_image": lambda: engine.inspect_image("x:1"),
        "pull_image": lambda: engine.pull_image(
            "x:1", on_progress=lambda _: None, is_cancelled=lambda: False
        ),
        "tag_image": lambda: engine.tag_image("x:1", "y:1"),
        "untag_image": lambda: engine.untag_image("x:1"),
        "read_image_files": lambda: engine.read_image_files("x:1", ("/etc/passwd",)),
        "find_images": lambda: engine.find_images(label="x"),
        "list_dangling_images": lambda: engine.list_dangling_images(label="x"),
        "remove_image": lambda: engine.remove_image("x:1"),
        "read_layers_size": engine.read_layers_size,
        "prepare_step": lambda: engine.prepare_step(step),
        "run_step": lambda: engine.run_step(
            step, environment={}, on_output=lambda _: None, should_stop=lambda: False
        ),
        "written_bytes": lambda: engine.written_bytes("x"),
        "commit_step": lambda: engine.commit_step("x", config=config, comment=""),
        "end_step": lambda: engine.end_step("x"),
        "ensure_network": lambda: engine.ensure_network("x", subnets=iter(()), labels={}),
        "list_networks": lambda: engine.list_networks(label="x"),
        "remove_network_if_unused": lambda: engine.remove_network_if_unused("x"),
        "watch_events": lambda: next(engine.watch_events(since=None, should_stop=lambda: False)),
    }
    assert set(calls) == set(ContainerEngine.__abstractmethods__)
    yield from calls.items()
