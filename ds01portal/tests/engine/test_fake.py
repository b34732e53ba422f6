"""The fake engine keeps the contract, and has the trouble it is asked to have."""

from __future__ import annotations

import datetime as dt
import threading
from pathlib import Path

import pytest

from ds01portal.engine.base import Observed, PullProgress
from ds01portal.engine.fake import ANY, FakeEngine
from ds01portal.exceptions import (
    DeviceDriverMissing,
    EngineError,
    EngineTimeout,
    EngineUnreachable,
    ImagePullFailed,
    MissingOnEngine,
    RlimitRefused,
)

from .contract import EngineContract, Rig

IMAGE = "ds01/demo-python:1"
REMOTE = "registry.example:5000/ds01/remote:1"
SLOW = "registry.example:5000/ds01/slow:1"


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

    def __call__(self) -> dt.datetime:
        return self.now

    def forward(self, **span: float) -> None:
        self.now += dt.timedelta(**span)


def make_fake(**options: object) -> FakeEngine:
    engine = FakeEngine(**options)  # type: ignore[arg-type]
    engine.add_image(IMAGE, 96_000_000, files={"/etc/passwd": b"root:x:0:0::/root:/bin/sh\n"})
    engine.add_remote_image(REMOTE, (1_000, 200_000_000, 5_000_000))
    engine.add_remote_image(SLOW, (1_000_000,), seconds_per_step=60)
    return engine


@pytest.fixture
def fake() -> FakeEngine:
    return make_fake()


@pytest.fixture
def rig(fake: FakeEngine, tmp_path: Path) -> Rig:
    def unreachable() -> FakeEngine:
        down = make_fake()
        down.go_down()
        return down

    return Rig(
        engine=fake,
        run_id="fake",
        image=IMAGE,
        workspace=tmp_path,
        subnets=tuple(f"10.8.0.{16 * n}/28" for n in range(4)),
        unreachable=unreachable,
        remote_image=REMOTE,
        slow_remote_image=SLOW,
        plan_step=fake.script_step,
    )


class TestFakeEngine(EngineContract):
    def assert_no_shell(self, rig: Rig, container: str) -> None:
        assert isinstance(rig.engine, FakeEngine)
        assert rig.engine.open_terminals(container) == 0

    def assert_one_network(self, rig: Rig, name: str) -> None:
        assert isinstance(rig.engine, FakeEngine)
        assert list(rig.engine.networks) == [name]


def test_a_planned_failure_happens_once_and_does_nothing(fake: FakeEngine, rig: Rig) -> None:
    container = fake.create_container(rig.spec())
    fake.fail_next("start_container", EngineError("no space"), times=2)
    for _ in range(2):
        with pytest.raises(EngineError, match="no space"):
            fake.start_container(container)
        assert fake.inspect_container(container).state is Observed.CREATED
    fake.start_container(container)
    assert fake.inspect_container(container).state is Observed.RUNNING


def test_a_planned_failure_can_meet_whatever_comes_next(fake: FakeEngine) -> None:
    fake.fail_next(ANY, EngineError("anything"))
    with pytest.raises(EngineError, match="anything"):
        fake.list_images()
    assert fake.list_images()


def test_containers_outlive_an_engine_that_is_down(fake: FakeEngine, rig: Rig) -> None:
    container = rig.running()
    fake.go_down()
    with pytest.raises(EngineUnreachable):
        fake.inspect_container(container)
    fake.exit_container(container, 137, out_of_memory=True)
    fake.come_up()
    seen = fake.inspect_container(container)
    assert (seen.state, seen.exit_code, seen.oom_killed) == (Observed.EXITED, 137, True)


def test_watchers_are_cut_off_when_the_engine_goes_down(fake: FakeEngine) -> None:
    events = fake.watch_events(since=None, should_stop=lambda: False)
    threading.Timer(0.1, fake.go_down).start()
    with pytest.raises(EngineUnreachable):
        next(events)


def test_a_call_hangs_until_it_is_released(fake: FakeEngine) -> None:
    fake.hang("ping")
    done = threading.Event()
    threading.Thread(target=lambda: (fake.ping(), done.set()), daemon=True).start()
    assert not done.wait(0.1)
    fake.release()
    assert done.wait(2)


def test_a_call_that_hangs_too_long_times_out(fake: FakeEngine) -> None:
    fake.hang("ping", seconds=0.01)
    with pytest.raises(EngineTimeout):
        fake.ping()
    fake.ping()


def test_an_engine_without_gpu_driver_creates_and_does_not_start(
    fake: FakeEngine, rig: Rig
) -> None:
    fake.device_driver = False
    container = fake.create_container(rig.spec(devices=("GPU-1",)))
    with pytest.raises(DeviceDriverMissing):
        fake.start_container(container)
    assert fake.inspect_container(container).state is Observed.CREATED


def test_a_host_that_refuses_memlock_says_so(fake: FakeEngine, rig: Rig) -> None:
    fake.raises_rlimits = False
    container = fake.create_container(rig.spec(memlock=-1))
    with pytest.raises(RlimitRefused):
        fake.start_container(container)


def test_foreign_containers_show_what_devices_they_hold(fake: FakeEngine) -> None:
    by_name = fake.inspect_container(fake.spawn_foreign("a", devices=("GPU-1", "GPU-2")))
    assert by_name.devices == ("GPU-1", "GPU-2")
    everything = fake.inspect_container(fake.spawn_foreign("b", all_devices=True))
    assert (everything.all_devices, everything.devices) == (True, ())
    counted = fake.inspect_container(fake.spawn_foreign("c", device_count=2, running=False))
    assert (counted.device_count, counted.state) == (2, Observed.CREATED)


def test_figures_follow_the_clock() -> None:
    clock = Clock()
    engine = make_fake(clock=clock)
    container = engine.spawn_foreign("busy")
    engine.set_load(container, cpu_cores=2, network_bytes_per_second=1_000)
    clock.forward(seconds=10)
    sample = engine.read_usage(container)
    assert sample.cpu_nanoseconds == 20_000_000_000
    assert sample.network_sent_bytes == 10_000
    assert sample.read_at == clock.now
    engine.set_load(container)
    clock.forward(hours=1)
    assert engine.read_usage(container).cpu_nanoseconds == 20_000_000_000


def test_a_pull_can_break_half_way(fake: FakeEngine) -> None:
    reference = "registry.example/broken:1"
    fake.add_remote_image(reference, (10, 20), breaks_with="write: no space left on device")
    seen: list[PullProgress] = []
    with pytest.raises(ImagePullFailed) as failed:
        fake.pull_image(reference, on_progress=seen.append, is_cancelled=lambda: False)
    assert failed.value.fields["reason"] == "no-space"
    assert seen[-1].percent == 70.0
    with pytest.raises(MissingOnEngine):
        fake.inspect_image(reference)


def test_a_command_can_be_answered_by_the_test(fake: FakeEngine, rig: Rig) -> None:
    container = rig.running()
    fake.on_command = lambda name, command: (0, name.encode()) if command == ("who",) else None
    assert fake.run_command(container, ("who",)) == (0, rig.name("box").encode())
    assert fake.run_command(container, ("echo", "x")) == (0, b"x\n")


def test_logs_are_cut_to_their_tail(fake: FakeEngine) -> None:
    container = fake.spawn_foreign("chatty")
    fake.write_log(container, b"one\ntwo\nthree\n")
    assert fake.read_logs(container, tail=2) == b"two\nthree\n"


def test_calls_are_noted_in_order(fake: FakeEngine) -> None:
    fake.ping()
    fake.list_containers()
    assert fake.calls == ["ping", "list_containers"]
