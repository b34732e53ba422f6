"""Real Docker keeps the contract, and what only a real engine can show.

Needs DS01_TEST_DOCKER_HOST (an engine with the demo image) and DS01_TEST_REGISTRY (a registry
on loopback). Every object carries this run's label and is cleaned up by it.
"""

from __future__ import annotations

import contextlib
import io
import ipaddress
import os
import random
import tarfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ds01portal.engine.base import ContainerEngine, Observed, PullProgress, TarEntry
from ds01portal.engine.dockerd import DockerEngine, execs
from ds01portal.exceptions import EngineConflict, EngineError, ImagePullFailed

from .contract import HUGE_UID, EngineContract, Rig, open_shell, read_until
from .stubs import stalling_registry

pytestmark = pytest.mark.engine

IMAGE = os.environ.get("DS01_TEST_IMAGE", "ds01/demo-python:1")
NEEDED = "start it with deploy/test.sh, or deploy/test_engine.sh and deploy/registry.sh by hand"


def required(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        pytest.fail(f"{name} is not set: these tests need a real rig; {NEEDED}", pytrace=False)
    return value


@pytest.fixture(scope="module")
def docker() -> Iterator[DockerEngine]:
    engine = DockerEngine(required("DS01_TEST_DOCKER_HOST"), timeout=30)
    yield engine
    engine.close()


def api(engine: ContainerEngine) -> Any:
    assert isinstance(engine, DockerEngine)
    return engine._client.api


@pytest.fixture
def rig(docker: DockerEngine, tmp_path: Path) -> Iterator[Rig]:
    made = Rig(
        engine=docker,
        run_id=uuid.uuid4().hex[:8],
        image=IMAGE,
        workspace=tmp_path,
        subnets=free_subnets(docker),
        unreachable=lambda: DockerEngine(f"unix://{tmp_path}/nobody.sock"),
    )
    yield made
    clean_up(made)


def free_subnets(docker: DockerEngine, count: int = 4) -> tuple[str, ...]:
    """Return subnets of the rig's range that nobody uses now."""
    taken = [
        ipaddress.ip_network(pool["Subnet"])
        for network in api(docker).networks()
        for pool in (network["IPAM"].get("Config") or ())
    ]
    whole = ipaddress.ip_network(os.environ.get("DS01_NETWORK_RANGE", "10.199.0.0/18"))
    free = [
        str(subnet)
        for subnet in whole.subnets(new_prefix=28)
        if not any(subnet.overlaps(other) for other in taken)
    ]
    return tuple(random.sample(free, count))


def clean_up(rig: Rig) -> None:
    mine = {"label": [rig.label]}
    for row in api(rig.engine).containers(all=True, filters=mine):
        api(rig.engine).remove_container(row["Id"], force=True, v=True)
    for network in api(rig.engine).networks(filters=mine):
        api(rig.engine).remove_network(network["Id"])
    # Tags first: an image that others were made on goes only with the last of them.
    for image in rig.engine.find_images(label=rig.label):
        for tag in image.tags:
            api(rig.engine).remove_image(tag, force=True)
    while dangling := rig.engine.list_dangling_images(label=rig.label):
        for image in dangling:
            rig.engine.remove_image(image.id)


def push_image(rig: Rig, *, megabytes: int) -> str:
    """Have an image in the registry whose layer is not on the engine; return its name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("blob")
        info.size = megabytes * 1_000_000
        archive.addfile(info, io.BytesIO(random.randbytes(info.size)))
    reference = f"{required('DS01_TEST_REGISTRY')}/ds01/{rig.run_id}"
    client = api(rig.engine)
    client.import_image_from_data(
        buffer.getvalue(), repository=reference, tag="1", changes=[f"LABEL {rig.label}"]
    )
    said = client.push(reference, tag="1")
    assert "digest" in said, said
    client.remove_image(f"{reference}:1", force=True)
    return f"{reference}:1"


def processes(rig: Rig, container: str) -> list[str]:
    top = api(rig.engine).top(container)
    return [row[top["Titles"].index("CMD")] for row in top["Processes"]]


class TestDockerEngine(EngineContract):
    def assert_no_shell(self, rig: Rig, container: str) -> None:
        deadline = time.monotonic() + 2  # the shell's children end just after it
        while len(processes(rig, container)) > 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        init, main = processes(rig, container)
        assert "init" in init
        assert main == "sh"

    @contextmanager
    def eight(self, rig: Rig) -> Iterator[list[ContainerEngine]]:
        address = required("DS01_TEST_DOCKER_HOST")
        engines: list[ContainerEngine] = [DockerEngine(address, timeout=30) for _ in range(8)]
        yield engines
        for engine in engines:
            engine.close()

    def assert_one_network(self, rig: Rig, name: str) -> None:
        found = [one for one in api(rig.engine).networks(names=[name]) if one["Name"] == name]
        assert len(found) == 1
        assert found[0]["Options"]["com.docker.network.bridge.enable_icc"] == "false"
        assert found[0]["Internal"] is False
        assert found[0]["Driver"] == "bridge"

    def test_a_pull_moves_one_figure_forward_to_the_end(self, rig: Rig) -> None:
        rig.remote_image = push_image(rig, megabytes=40)
        super().test_a_pull_moves_one_figure_forward_to_the_end(rig)

    def test_a_pull_is_cancelled_at_once_though_nothing_flows(self, rig: Rig) -> None:
        with stalling_registry() as address:
            rig.slow_remote_image = f"{address}/ds01/stalls:1"
            super().test_a_pull_is_cancelled_at_once_though_nothing_flows(rig)

    def test_a_pull_of_nothing_says_there_is_no_such_image(self, rig: Rig) -> None:
        rig.remote_image = f"{required('DS01_TEST_REGISTRY')}/ds01/{rig.run_id}:1"
        super().test_a_pull_of_nothing_says_there_is_no_such_image(rig)


# Pulls


def test_a_pull_that_stalls_in_a_layer_shows_its_figure_and_is_cancelled(rig: Rig) -> None:
    seen: list[PullProgress] = []
    cancelled_at: list[float] = []

    def is_cancelled() -> bool:
        if not any(one.done_bytes for one in seen):
            return False
        cancelled_at.append(time.monotonic())
        return True

    with stalling_registry() as address, pytest.raises(ImagePullFailed) as failed:
        rig.engine.pull_image(
            f"{address}/ds01/stalls:1", on_progress=seen.append, is_cancelled=is_cancelled
        )
    assert failed.value.fields["cancelled"] is True
    assert time.monotonic() - cancelled_at[0] < 0.5
    assert seen[-1].percent is not None
    assert 0 < seen[-1].percent <= 10
    assert seen[-1].total_bytes == 10_000_000


def test_a_registry_that_nobody_runs_is_a_network_failure(rig: Rig) -> None:
    with pytest.raises(ImagePullFailed) as failed:
        rig.engine.pull_image(
            "127.0.0.1:1/ds01/x:1", on_progress=lambda _: None, is_cancelled=lambda: False
        )
    assert failed.value.fields["reason"] == "network"


def test_the_last_tag_of_an_image_in_use_stays(rig: Rig) -> None:
    reference = push_image(rig, megabytes=1)
    rig.engine.pull_image(reference, on_progress=lambda _: None, is_cancelled=lambda: False)
    rig.engine.create_container(rig.spec(image=reference))
    with pytest.raises(EngineConflict):
        rig.engine.untag_image(reference)
    assert reference in rig.engine.inspect_image(reference).tags


# Files


def test_put_files_keep_owner_and_mode_and_huge_ids_make_no_giants(rig: Rig) -> None:
    container = rig.engine.create_container(rig.spec())
    rig.engine.put_files(
        container,
        (
            TarEntry(path="/home/alice", content=None, uid=HUGE_UID, gid=HUGE_UID, mode=0o750),
            TarEntry(
                path="/home/alice/.profile", content=b"x", uid=HUGE_UID, gid=HUGE_UID, mode=0o600
            ),
        ),
    )
    rig.engine.start_container(container)
    code, shown = rig.engine.run_command(
        container, ("stat", "-c", "%u %g %a %s", "/home/alice", "/home/alice/.profile")
    )
    home, profile = shown.decode().splitlines()
    assert code == 0
    assert home.startswith(f"{HUGE_UID} {HUGE_UID} 750")
    assert profile == f"{HUGE_UID} {HUGE_UID} 600 1"
    assert rig.engine.run_command(container, ("touch", "/home/alice/mine"))[0] == 0


def test_what_is_written_in_the_workspace_belongs_to_the_user_on_the_host(rig: Rig) -> None:
    rig.workspace.chmod(0o777)
    for parent in list(rig.workspace.parents)[:2]:
        parent.chmod(0o755)
    container = rig.running()
    assert rig.engine.run_command(container, ("touch", "/workspace/mine"))[0] == 0
    assert (rig.workspace / "mine").stat().st_uid == HUGE_UID


def test_links_in_an_image_are_followed_and_large_files_refused(rig: Rig) -> None:
    files = rig.engine.read_image_files(rig.image, ("/etc/os-release", "/etc", "/etc/passwd"))
    assert set(files) == {"/etc/os-release", "/etc/passwd"}  # the first is a link
    assert b"ID=" in files["/etc/os-release"]
    with pytest.raises(EngineError, match="1 MiB"):
        rig.engine.read_image_files(rig.image, ("/usr/bin/python3",))
    temporary = {"label": ["aime.mlc.DS01_TEMP=true"]}
    assert api(rig.engine).containers(all=True, filters=temporary) == []


def test_the_log_of_a_container_can_be_read(rig: Rig) -> None:
    container = rig.running(command=("sh", "-c", "echo one; echo two; sleep 60"))
    deadline = time.monotonic() + 5
    while b"two" not in rig.engine.read_logs(container) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert rig.engine.read_logs(container).split() == [b"one", b"two"]
    assert rig.engine.read_logs(container, tail=1).split() == [b"two"]


# Devices of containers that others made


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"Count": -1, "Capabilities": [["gpu"]]}, ((), True, 0)),
        ({"Count": 2, "Capabilities": [["gpu"]]}, ((), False, 2)),
        ({"DeviceIDs": ["0", "1"], "Capabilities": [["gpu"]]}, (("0", "1"), False, 0)),
    ],
)
def test_foreign_device_requests_are_read(
    rig: Rig, request_: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    made = api(rig.engine).create_container_from_config(
        {"Image": IMAGE, "Labels": rig.labels, "HostConfig": {"DeviceRequests": [request_]}},
        name=f"foreign-{rig.run_id}",
    )
    seen = rig.engine.inspect_container(made["Id"])
    assert (seen.devices, seen.all_devices, seen.device_count) == expected


def test_an_image_that_wants_all_gpus_gets_none_without_nvidias_runtime(rig: Rig) -> None:
    made = api(rig.engine).create_container_from_config(
        {"Image": IMAGE, "Labels": rig.labels, "Env": ["NVIDIA_VISIBLE_DEVICES=all"]}
    )
    seen = rig.engine.inspect_container(made["Id"])
    assert (seen.devices, seen.all_devices, seen.device_count) == ((), False, 0)


def test_the_container_sees_the_devices_it_was_given(rig: Rig) -> None:
    container = rig.running(devices=("GPU-aaaa", "MIG-bbbb"), environment={})
    environment = rig.engine.run_command(container, ("cat", "/proc/1/environ"))[1]
    assert b"NVIDIA_VISIBLE_DEVICES=GPU-aaaa,MIG-bbbb" in environment.split(b"\0")


def test_no_variable_comes_in_that_the_portal_did_not_set(rig: Rig) -> None:
    container = rig.running()
    lines = rig.engine.run_command(container, ("cat", "/proc/1/environ"))[1].split(b"\0")
    names = {line.partition(b"=")[0].decode() for line in lines if line}
    allowed = {"PATH", "HOSTNAME", "TERM", "HOME", "LANG", "NVIDIA_VISIBLE_DEVICES"}
    allowed |= set(rig.engine.inspect_image(rig.image).environment)
    assert names <= allowed


# Terminals


@pytest.fixture(params=["by the host's signal", "by a command inside"])
def way_to_end(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "by a command inside":
        monkeypatch.setattr(execs.Exec, "_send_from_host", lambda *_: False)
    return str(request.param)


def test_a_closed_terminal_takes_its_foreground_with_it(rig: Rig, way_to_end: str) -> None:
    container = rig.running()
    terminal = open_shell(rig, container)
    terminal.write(b"sleep 4242\n")
    read_until(terminal, b"4242")
    terminal.close()
    TestDockerEngine().assert_no_shell(rig, container)


def test_a_shell_that_ignores_the_hangup_is_killed(rig: Rig, way_to_end: str) -> None:
    container = rig.running()
    terminal = open_shell(rig, container)
    terminal.write(b"trap '' HUP; echo set-$((40+2)); sleep 4242\n")
    read_until(terminal, b"set-42")
    began = time.monotonic()
    terminal.close()
    assert time.monotonic() - began < 3
    TestDockerEngine().assert_no_shell(rig, container)


def test_ending_one_terminal_leaves_another(rig: Rig, way_to_end: str) -> None:
    container = rig.running()
    first, second = open_shell(rig, container), open_shell(rig, container)
    first.close()
    second.write(b"echo still-$((40+2))\n")
    read_until(second, b"still-42")
    second.close()
    TestDockerEngine().assert_no_shell(rig, container)


def test_what_a_shell_says_first_is_not_lost(rig: Rig) -> None:
    container = rig.running()
    for _ in range(10):
        terminal = rig.engine.open_terminal(
            container,
            ("sh", "-c", "echo first-words; sleep 60"),
            user="",
            working_dir="/",
            environment={},
            columns=80,
            rows=24,
        )
        assert read_until(terminal, b"\n").startswith(b"first-words")
        terminal.close()


def test_a_shell_that_does_not_exist_ends_at_once(rig: Rig) -> None:
    terminal = rig.engine.open_terminal(
        rig.running(),
        ("no-such-shell",),
        user="",
        working_dir="/",
        environment={},
        columns=80,
        rows=24,
    )
    while terminal.read():
        pass
    assert terminal.exit_code() in (126, 127)
    terminal.close()


def test_a_stopped_container_ends_its_terminals(rig: Rig) -> None:
    container = rig.running()
    terminal = open_shell(rig, container)
    threading.Timer(0.2, rig.engine.stop_container, (container,), {"timeout": 1}).start()
    while terminal.read():
        pass
    deadline = time.monotonic() + 5
    while terminal.exit_code() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert terminal.exit_code() is not None
    terminal.close()


# Networks and events


def test_a_network_of_that_name_which_lets_traffic_through_is_not_taken(rig: Rig) -> None:
    name = f"foreign-{rig.run_id}"
    api(rig.engine).create_network(
        name,
        driver="bridge",
        labels=rig.labels,
        ipam={"Driver": "default", "Config": [{"Subnet": rig.subnets[0]}]},
    )
    with pytest.raises(EngineConflict):
        rig.engine.ensure_network(name, subnets=iter(rig.subnets[1:]), labels=rig.labels)


def test_a_quiet_engine_is_not_a_dead_one(rig: Rig) -> None:
    """The bound on one answer does not apply to events, which may not come for hours."""
    patient = DockerEngine(required("DS01_TEST_DOCKER_HOST"), timeout=1)
    until = time.monotonic() + 2.5
    with contextlib.closing(patient):
        events = patient.watch_events(since=None, should_stop=lambda: time.monotonic() > until)
        assert [e for e in events if e.attributes.get("ds01.test") == rig.run_id] == []


def test_many_threads_share_one_engine(rig: Rig) -> None:
    container = rig.running()
    states: list[Observed] = []
    threads = [
        threading.Thread(
            target=lambda: states.append(rig.engine.inspect_container(container).state)
        )
        for _ in range(48)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert states == [Observed.RUNNING] * 48
