"""Builds under a real worker on an engine of their own: cancelled, late, out of memory, killed.

Whatever happens, the engine has afterwards what it had before, and the build says what it was.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from catalog.tests.wheelhouse import Wheelhouse
from workspaces.tests.processes import (
    ROOT,
    fresh_database,
    make_environment,
    run_python,
    start_python,
)

pytestmark = [pytest.mark.engine, pytest.mark.timeout(180)]
PLAYERS = "workspaces.tests.build_players"
HELD = {"requirements": "alpha", "jupyter": {"choice": "own", "packages": ["beta"]}}
LOOKS = "ds01-facts."  # containers in which the worker looks into images
MIB = 1024**2
POLICY = {
    "timeout_seconds": 600,
    "memory_bytes": 1024 * MIB,
    "disk_bytes": 1024 * MIB,
    "builds_per_person": 1,
    "builds_in_all": 2,
}


def script(name: str, *arguments: str, environment: dict[str, str] | None = None) -> str:
    """Run a rig's script and return what it printed."""
    done = subprocess.run(
        ["bash", str(ROOT / "deploy" / name), *arguments],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def play(environment: dict[str, str], verb: str, wishes: dict[str, Any]) -> Any:
    """Call a player in the process of a pool."""
    os.environ.update(environment)
    sys.path.insert(0, str(ROOT))
    from workspaces.tests import build_players

    return build_players.VERBS[verb](**wishes)


@dataclass
class Site:
    """A portal with an engine, a wheelhouse and a worker of its own."""

    folder: Path
    rig: str
    environment: dict[str, str]
    house: Wheelhouse
    pool: ProcessPoolExecutor
    worker: subprocess.Popen[bytes] | None = None

    def call(self, verb: str, **wishes: Any) -> Any:
        """Let a player act, in a process that is kept."""
        return self.pool.submit(play, self.environment, verb, wishes).result(60)

    def ask(self, name: str, **wishes: Any) -> str:
        """Ask for a build and return its key."""
        return str(self.call("ask", name=name, **wishes)["build"])

    def start_worker(self) -> None:
        """Start a worker as a service would."""
        with (self.folder / "worker.log").open("ab") as log:
            self.worker = subprocess.Popen(
                [sys.executable, "manage.py", "run_worker"],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def end_worker(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it."""
        if self.worker is not None:
            self.worker.send_signal(how)
            self.worker.wait(timeout=40)
            self.worker = None

    def docker(self, *arguments: str) -> list[str]:
        """Return the lines that the docker command prints."""
        command = ["docker", "-H", self.environment["DOCKER_HOST"], *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return sorted(done.stdout.split("\n")[:-1])

    def inventory(self) -> tuple[list[str], list[str]]:
        """Return all containers, and all images, those without a name and parents too.

        Containers in which a worker just looks into an image come and go.
        """
        names = [name for name in self.containers() if not name.startswith(LOOKS)]
        return names, self.docker("images", "-aq", "--no-trunc")

    def containers(self) -> list[str]:
        """Return the names of all containers in every state."""
        return self.docker("ps", "-a", "--format", "{{.Names}}")

    def dangling(self) -> list[str]:
        """Return the images that nothing needs and nobody can name."""
        return self.docker("images", "-q", "--filter", "dangling=true")

    def wait(
        self, build: str, good: Callable[[dict[str, Any]], bool], seconds: float = 60
    ) -> dict[str, Any]:
        """Look at a build until it is so."""
        end = time.monotonic() + seconds
        while True:
            seen: dict[str, Any] = self.call("look", build=build)
            if good(seen):
                return seen
            assert time.monotonic() < end, f"it never came: {json.dumps(seen, indent=1)[-3000:]}"
            time.sleep(0.05)

    def wait_for_end(self, build: str, seconds: float = 60) -> dict[str, Any]:
        """Return the build when it has ended."""
        return self.wait(
            build, lambda seen: seen["operation"] not in ("queued", "running"), seconds
        )


@pytest.fixture(scope="module")
def portal_of_builds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Start everything; one for all tests here."""
    folder = tmp_path_factory.mktemp("builds")
    rig = str(folder / "engine")
    out = script("test_engine.sh", "start", rig, "--live-restore")
    facts = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
    try:
        script("demo_image.sh", "demo", environment=facts)
        with Wheelhouse(docker_host=facts["DOCKER_HOST"]) as house:
            house.add("alpha", "1.0")
            house.add("beta", "1.0")
            environment = make_environment(
                fresh_database("sqlite", folder),
                folder,
                DS01_GPUS="simulated:1xA100-40GB",
                DS01_PIP_INDEX_URL=house.url,
                **facts,
            )
            run_python("manage", "migrate", "-v", "0", environment=environment)
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                site = Site(folder, rig, environment, house, pool)
                site.call("prepare", people=2)
                try:
                    yield site
                finally:
                    house.release()
                    site.end_worker(signal.SIGKILL)
    finally:
        script("test_engine.sh", "wipe", rig)


@pytest.fixture
def site(portal_of_builds: Site) -> Iterator[Site]:
    """A portal at rest with a worker; at the end nothing may be under way or left over."""
    site = portal_of_builds
    site.call("set_policy", **POLICY)
    if site.worker is None:
        site.start_worker()
    yield site
    site.house.release()
    site.house.accept()
    site.house.asked.clear()
    assert site.call("live") == {"operations": 0}
    strays, dangling = site.inventory()[0], site.dangling()
    # Removed here, or the tests that follow would be blamed for them as well.
    if strays:
        site.docker("rm", "-f", *strays)
    if dangling:
        site.docker("image", "prune", "-f")
    assert (strays, dangling) == ([], [])


def hold_a_build(site: Site, name: str, **wishes: Any) -> str:
    """Return a build whose first layer is made and whose second waits for its package."""
    site.house.hold("alpha")
    build = site.ask(name, **HELD, **wishes, fresh=True)
    assert site.house.reached.wait(40)
    return build


def test_a_build_ends_with_a_version_and_says_so(site):
    build = site.ask("thesis", **HELD)
    ended = site.wait_for_end(build)

    assert (ended["state"], ended["operation"], ended["error"]) == ("done", "done", {})
    assert ended["image"] == "ds01-310000/thesis:1"
    assert "Step 1 of 2: Jupyter" in ended["log"]
    assert "Successfully installed alpha-1.0" in ended["log"]
    assert site.docker("image", "inspect", "-f", "{{.Id}}", "ds01-310000/thesis:latest") == [
        ended["engine_id"]
    ]


def test_a_cancel_ends_the_step_at_once_and_leaves_nothing(site):
    before = site.inventory()
    build = hold_a_build(site, "cancelled")

    begun = time.monotonic()
    site.call("cancel", build=build)
    ended = site.wait_for_end(build)
    seconds = time.monotonic() - begun

    assert (ended["state"], ended["operation"]) == ("cancelled", "cancelled")
    assert ended["error"]["code"] == "cancelled"
    assert ended["error"]["message"] == "The build was cancelled."
    assert ended["steps"] == ["done", "failed"]
    assert seconds < 5
    assert site.inventory() == before


def test_one_that_waits_is_cancelled_without_having_begun(site):
    site.call("set_policy", builds_in_all=1)
    first = hold_a_build(site, "first")
    second = site.ask("second", person=1, requirements="beta")
    site.wait(second, lambda seen: seen["phase"] == "queue" and seen["place"] == 1)

    site.call("cancel", build=second)
    ended = site.wait_for_end(second)
    site.house.release()

    assert (ended["state"], ended["steps"]) == ("cancelled", ["waiting"])
    assert site.wait_for_end(first)["state"] == "done"


def test_one_that_takes_too_long_is_ended(site):
    before = site.inventory()
    site.call("set_policy", timeout_seconds=15)
    ended = site.wait_for_end(hold_a_build(site, "late"))

    assert (ended["state"], ended["operation"]) == ("failed", "failed")
    assert (ended["error"]["code"], ended["error"]["family"]) == ("timeout", "timeout")
    assert "longer than" in ended["error"]["message"]
    assert ended["error"]["hint"]
    assert site.inventory() == before


def test_one_that_needs_too_much_memory_is_ended(site):
    before = site.inventory()
    site.call("set_policy", memory_bytes=96 * MIB)
    line = "python3 -c 'print(len(bytearray(400 << 20)))'"
    ended = site.wait_for_end(site.ask("hungry", post_install=["true", line]))

    assert (ended["state"], ended["steps"]) == ("failed", ["failed"])
    assert ended["error"]["family"] == "out_of_memory"
    assert "96" in ended["error"]["message"]
    assert ended["error"]["fields"]["step"] == 1
    assert site.inventory() == before


def test_one_that_writes_too_much_is_ended(site):
    before = site.inventory()
    site.call("set_policy", disk_bytes=32 * MIB)
    line = "head -c 100000000 /dev/urandom > /opt/noise; sleep 120"
    ended = site.wait_for_end(site.ask("large", post_install=[line]))

    assert (ended["state"], ended["steps"]) == ("failed", ["failed"])
    assert ended["error"]["code"] == "too-large"
    assert "32" in ended["error"]["message"]
    assert site.inventory() == before


def test_after_a_step_that_failed_the_next_try_goes_on_from_the_last_good_layer(site):
    before = site.inventory()
    ended = site.wait_for_end(
        site.ask("typo", requirements="nope", jupyter={"choice": "own", "packages": ["alpha"]})
    )
    kept = site.inventory()
    site.house.asked.clear()
    again = site.wait_for_end(
        site.ask("typo", requirements="beta", jupyter={"choice": "own", "packages": ["alpha"]})
    )

    assert (ended["state"], ended["steps"]) == ("failed", ["done", "failed"])
    assert ended["error"]["fields"]["exit_code"] == 1
    assert "nope" in " ".join(ended["error"]["fields"]["tail"])
    assert kept[0] == before[0]
    assert len(kept[1]) == len(before[1]) + 1
    assert (again["state"], again["steps"]) == ("done", ["cached", "done"])
    assert [path for path in site.house.asked if "alpha" in path] == []
    assert not [one for one in site.docker("images", "ds01-310000/typo") if "_unfinished" in one]


def test_a_worker_killed_in_a_step_is_followed_by_one_that_ends_the_build(site):
    containers, _images = site.inventory()
    build = hold_a_build(site, "killed")
    first = site.call("look", build=build)["layers"][0]
    site.end_worker(signal.SIGKILL)
    assert f"ds01-build.{build}.2" in site.docker(
        "ps", "--format", "{{.Names}}"
    )  # goes on by itself

    site.start_worker()
    assert site.call("look", build=build)["state"] == "running"
    site.house.release()
    ended = site.wait_for_end(build)

    assert (ended["state"], ended["operation"], ended["error"]) == ("done", "done", {})
    assert ended["layers"][0] == first  # not made again
    assert site.inventory()[0] == containers


def test_a_worker_killed_during_a_cancel_is_followed_by_one_that_cleans_up(site):
    before = site.inventory()
    build = hold_a_build(site, "twice")
    site.end_worker(signal.SIGKILL)
    site.call("cancel", build=build)

    site.start_worker()
    ended = site.wait_for_end(build)

    assert (ended["state"], ended["operation"]) == ("cancelled", "cancelled")
    assert ended["error"]["code"] == "cancelled"
    assert site.inventory() == before


def die_in(site: Site, phase: str) -> None:
    """Let a worker be killed with -9 at that moment, and the next one begin."""
    wishes = json.dumps({"phase": phase})
    dying = start_python(PLAYERS, "die", wishes, environment=site.environment)
    _out, err = dying.communicate(timeout=60)
    assert dying.returncode == -signal.SIGKILL, err[-2000:]
    site.start_worker()


@pytest.mark.parametrize("phase", ["base", "step", "committed", "finish", "tagged"])
def test_killed_at_any_moment_the_build_is_ended_by_the_next_worker(site, phase):
    site.end_worker()
    # The comment makes it a layer of its own: none is there to be taken.
    build = site.ask(f"dies-{phase}", requirements=f"beta  # {phase}")
    die_in(site, phase)
    ended = site.wait_for_end(build)

    assert (ended["state"], ended["image"]) == ("done", f"ds01-310000/dies-{phase}:1")


def test_a_layer_that_a_killed_worker_had_no_time_to_note_is_swept(site):
    site.end_worker()
    build = site.ask("unnoted", requirements="beta", fresh=True)
    die_in(site, "committed")

    assert site.wait_for_end(build)["state"] == "done"
    site.call("sweep", hours=2)
    assert site.dangling() == []
    assert len(site.docker("images", "-q", "ds01-310000/unnoted:1")) == 1


def test_a_look_into_an_image_that_a_killed_worker_left_is_swept(site):
    site.end_worker()
    wishes = json.dumps({"phase": "looked"})
    dying = start_python(PLAYERS, "die", wishes, environment=site.environment)
    assert dying.wait(60) == -signal.SIGKILL
    dying.communicate()
    assert [name for name in site.containers() if name.startswith(LOOKS)]

    site.call("sweep", hours=2)

    assert site.containers() == []


def test_killed_as_the_undo_begins_the_next_worker_cleans_up(site):
    before = site.inventory()
    site.end_worker()
    site.call("set_policy", memory_bytes=96 * MIB)
    line = "python3 -c 'print(len(bytearray(400 << 20)))'"
    build = site.ask("undone", post_install=[line])
    die_in(site, "undo")
    ended = site.wait_for_end(build)

    assert (ended["state"], ended["error"]["family"]) == ("failed", "out_of_memory")
    assert site.inventory() == before


@pytest.mark.parametrize("how", ["containers go on", "containers end"])
def test_an_engine_that_restarts_does_not_lose_the_build(site, how):
    if how == "containers end":
        script("test_engine.sh", "stop", site.rig)
        script("test_engine.sh", "start", site.rig)
    containers, _images = site.inventory()
    build = hold_a_build(site, how.replace(" ", "-"))
    first = site.call("look", build=build)["layers"][0]

    script("test_engine.sh", "down", site.rig)
    away = site.wait(build, lambda seen: seen["operation"] == "queued")
    script("test_engine.sh", "up", site.rig)
    site.house.release()
    ended = site.wait_for_end(build)

    assert away["state"] == "running"
    assert "Docker does not answer. The build goes on when it does." in away["log"]
    assert (ended["state"], ended["operation"], ended["error"]) == ("done", "done", {})
    assert ended["layers"][0] == first
    assert site.inventory()[0] == containers
