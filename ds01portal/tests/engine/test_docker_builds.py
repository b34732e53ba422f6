"""Real Docker keeps the contract of builds, and what only a real engine can show.

Needs DS01_TEST_DOCKER_HOST, as `test_docker` does.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ds01portal.engine.base import Observed
from ds01portal.engine.dockerd import DockerEngine
from ds01portal.exceptions import EngineUnreachable

from .contract import MIB, Rig
from .contract_builds import BuildContract, config, run_step, step_spec
from .test_docker import api, docker, required, rig

__all__ = ["docker", "rig"]  # fixtures

pytestmark = pytest.mark.engine


class TestDockerBuilds(BuildContract):
    def kept_by(self, rig: Rig, container: str, image: str) -> str:
        client = api(rig.engine)
        return json.dumps(
            [
                client.inspect_container(container),
                client.inspect_image(image),
                client.history(image),
            ],
            ensure_ascii=False,
        )


# Output


def test_output_comes_within_a_twentieth_of_a_second(rig: Rig) -> None:
    lags: list[float] = []
    command = "i=0; while [ $i -lt 15 ]; do date +%s.%N; i=$((i+1)); sleep 0.05; done"
    rig.engine.run_step(
        step_spec(rig, command=command),
        environment={},
        on_output=lambda data: lags.append(time.time() - float(data.split()[-1])),
        should_stop=lambda: False,
    )
    assert len(lags) >= 10
    assert statistics.median(lags) < 0.05, lags


def test_both_streams_come_in_the_order_they_were_written(rig: Rig) -> None:
    command = "i=0; while [ $i -lt 500 ]; do echo $i; i=$((i+1)); echo $i >&2; i=$((i+1)); done"
    _, said = run_step(rig, step_spec(rig, command=command))
    assert said.split() == [str(number).encode() for number in range(500)]


def test_much_output_comes_whole_and_a_slow_listener_loses_nothing(rig: Rig) -> None:
    size = 0

    def listen(data: bytes) -> None:
        nonlocal size
        size += len(data)
        assert not data.strip(b"\0")
        time.sleep(0.0005)

    spec = step_spec(rig, command="head -c 20000000 /dev/zero")
    result = rig.engine.run_step(spec, environment={}, on_output=listen, should_stop=lambda: False)
    assert result.exit_code == 0
    assert size == 20_000_000


def test_a_step_that_closes_its_streams_is_waited_for(rig: Rig) -> None:
    began = time.monotonic()
    result, said = run_step(
        rig, step_spec(rig, command="echo bye; exec >&- 2>&-; sleep 1.5; exit 4")
    )
    assert (result.exit_code, said) == (4, b"bye\n")
    assert time.monotonic() - began > 1.5


def test_a_step_that_closed_its_streams_can_still_be_stopped(rig: Rig) -> None:
    began = time.monotonic()
    result = rig.engine.run_step(
        step_spec(rig, command="exec >&- 2>&-; sleep 60"),
        environment={},
        on_output=lambda _: None,
        should_stop=lambda: time.monotonic() - began > 1,
    )
    assert result.stopped is True
    assert time.monotonic() - began < 5


def test_what_a_step_leaves_in_the_background_ends_with_it(rig: Rig) -> None:
    began = time.monotonic()
    result, said = run_step(rig, step_spec(rig, command="sleep 60 & echo started"))
    assert (result.exit_code, said) == (0, b"started\n")
    assert time.monotonic() - began < 10


def test_a_step_has_nothing_to_read(rig: Rig) -> None:
    result, said = run_step(rig, step_spec(rig, command="cat; read line; echo got:$line:$?"))
    assert (result.exit_code, said) == (0, b"got::1\n")


def test_a_command_reaches_the_shell_as_it_was_written(rig: Rig) -> None:
    command = """set -e; printf '%s\\n' 'a b' "c\\"d" '$HOME' \\
  'größer'; (exit 5)"""
    result, said = run_step(rig, step_spec(rig, command=command))
    assert result.exit_code == 5
    assert said.decode().splitlines() == ["a b", 'c"d', "$HOME", "größer"]
    rig.engine.commit_step(rig.name("step"), config=config(), comment="")
    (image,) = rig.engine.find_images(label=rig.label)
    assert api(rig.engine).history(image.id)[0]["CreatedBy"] == f"/bin/sh -c {command}"


# Walls


def test_a_fork_bomb_meets_its_limit(rig: Rig) -> None:
    command = "i=0; while [ $i -lt 60 ]; do sleep 5 & i=$((i+1)); done; echo unbounded"
    result, said = run_step(rig, step_spec(rig, command=command, pids_limit=32))
    assert result.exit_code != 0
    assert b"unbounded" not in said
    assert b"fork" in said


def test_without_a_network_there_is_no_way_out(rig: Rig) -> None:
    command = "cat /proc/net/route; ls /sys/class/net"
    _, alone = run_step(rig, step_spec(rig, command=command, network="none"))
    _, bridged = run_step(rig, step_spec(rig, command=command, network=""))
    assert (len(alone.splitlines()), alone.split()[-1]) == (2, b"lo")
    assert b"eth0" in bridged.splitlines()[1]


def test_a_step_has_few_capabilities_no_devices_and_gains_no_more(rig: Rig) -> None:
    command = (
        "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; "
        "mknod /tmp/null c 1 3 2>/dev/null || echo no device; "
        "ls /dev | tr '\\n' ' '"
    )
    _, said = run_step(rig, step_spec(rig, command=command))
    status = dict(line.split(":", 1) for line in said.decode().splitlines()[:4])
    # Bits 0, 1, 3 to 7 and 31: see capability.h.
    assert {int(status[name], 16) for name in ("CapEff", "CapBnd")} == {0x800000FB}
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"
    assert b"no device" in said
    assert not [name for name in said.decode().split() if name.startswith(("nvidia", "sd", "vd"))]


def test_packages_with_owners_modes_and_users_of_their_own_can_be_installed(rig: Rig) -> None:
    command = """set -e
mkdir -p /tmp/p/DEBIAN /tmp/p/usr/bin /tmp/p/var/lib/things
printf 'Package: things\\nVersion: 1\\nArchitecture: all\\nMaintainer: A <a@b.c>\\n' \
  > /tmp/p/DEBIAN/control
echo 'Description: nothing' >> /tmp/p/DEBIAN/control
printf '#!/bin/sh\\nset -e\\nuseradd --system things\\nchown things /var/lib/things\\n' \
  > /tmp/p/DEBIAN/postinst
chmod 755 /tmp/p/DEBIAN/postinst
printf '#!/bin/sh\\nid -un\\n' > /tmp/p/usr/bin/things
chown 7:8 /tmp/p/usr/bin/things
chmod 6755 /tmp/p/usr/bin/things
dpkg-deb --build /tmp/p /tmp/things.deb > /dev/null
dpkg -i /tmp/things.deb > /dev/null
stat -c '%u %g %a' /usr/bin/things
stat -c '%U' /var/lib/things
su -s /bin/sh things -c things
"""
    result, said = run_step(rig, step_spec(rig, command=command))
    assert (result.exit_code, said) == (0, b"7 8 6755\nthings\nthings\n"), said


# The line to the engine


class Cuttable:
    """A way to the engine through a socket of its own that can be cut."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._upstream = required("DS01_TEST_DOCKER_HOST").removeprefix("unix://")
        self._open: list[socket.socket] = []
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._upstream)
                self._open += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        for one in (self._server, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self.path.unlink(missing_ok=True)


@contextmanager
def cuttable_engine(path: Path) -> Iterator[tuple[Cuttable, DockerEngine]]:
    line = Cuttable(path)
    engine = DockerEngine(f"unix://{path}", timeout=30)
    yield line, engine
    engine.close()
    line.cut()


def test_a_cut_line_is_told_from_an_end_and_the_step_is_replaced(rig: Rig, tmp_path: Path) -> None:
    spec = step_spec(rig, command="echo going; sleep 60")
    with cuttable_engine(tmp_path / "cut.sock") as (line, engine):
        began: list[float] = []

        def cut(data: bytes) -> None:
            began.append(time.monotonic())
            line.cut()

        with pytest.raises(EngineUnreachable) as failed:
            engine.run_step(spec, environment={}, on_output=cut, should_stop=lambda: False)
        assert time.monotonic() - began[0] < 2
        assert failed.value.cause
    assert rig.engine.inspect_container(spec.name).state is Observed.RUNNING
    assert run_step(rig, step_spec(rig, command="true"))[0].exit_code == 0


def test_a_step_without_all_its_variables_does_not_run(rig: Rig) -> None:
    spec = step_spec(rig, command="echo must-not-run > /tmp/ran")
    rig.engine.prepare_step(spec)
    assert isinstance(rig.engine, DockerEngine)
    client = api(rig.engine)
    where = rig.engine._client.path("containers", spec.name, "attach")
    with rig.engine._client.hijack(f"{where}?stream=1&stdin=1", None) as line:
        client.start(spec.name)
        line.sendall(b"A=1\nB=")
        line.shutdown(socket.SHUT_WR)
    assert client.wait(spec.name)["StatusCode"] == 125
    assert rig.engine.written_bytes(spec.name) < 10


def test_twelve_steps_at_once_keep_their_own_output(rig: Rig) -> None:
    said: dict[int, bytes] = {}

    def build(number: int) -> None:
        spec = step_spec(rig, f"many{number}", command=f"echo {number}; sleep 0.2; echo {number}")
        said[number] = run_step(rig, spec)[1]

    threads = [threading.Thread(target=build, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert said == {number: f"{number}\n{number}\n".encode() for number in range(12)}


def test_no_connection_is_left_open_by_a_step(rig: Rig) -> None:
    run_step(rig, step_spec(rig))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        run_step(rig, step_spec(rig, memory=64 * MIB))
    assert len(os.listdir("/proc/self/fd")) <= before
