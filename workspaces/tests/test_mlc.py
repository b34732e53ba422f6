"""Portal and `mlc` work on the same containers, on a real engine with a real worker.

The portal is driven by its commands, `mlc` by a double that issues the same docker commands.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conftest import make_person
from ds01portal.engine.base import ContainerEngine
from workspaces.tests.mlc_double import Mlc
from workspaces.tests.processes import ROOT, fresh_database, make_environment, run_python

pytestmark = [pytest.mark.engine, pytest.mark.timeout(240)]

IMAGE = "ds01/demo-python:1"
FOLLOWS = 5  # seconds in which the portal shows what was done elsewhere
RANGE = "10.220.0.0/16"
COLUMNS = "state, stop_reason, origin, name, framework, version, workspace_path, image_reference"


@dataclass
class Portal:
    """A portal with a database, folders and a worker of its own on the test engine."""

    folder: Path
    environment: dict[str, str]
    login: str
    uid: int

    def manage(self, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
        """Run a command with --json and return what it printed."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments, "--json"],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == exit_code, f"{arguments}: {done.stdout}{done.stderr[-2000:]}"
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def launch(self, name: str, *more: str) -> None:
        self.manage("create_container", self.login, name, "--image", IMAGE, "--wait", *more)

    def do(self, verb: str, name: str) -> None:
        self.manage(f"{verb}_container", self.login, name, "--wait")

    def ask(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        """Look at the database that the pages are made from."""
        with closing(sqlite3.connect(self.folder / "race.sqlite3", timeout=10)) as database:
            return database.execute(query, values).fetchall()

    def row(self, name: str) -> dict[str, Any]:
        """Return the newest row of a container, empty when there is none."""
        rows = self.ask(
            f"SELECT {COLUMNS} FROM workspaces_container WHERE engine_name = ? "
            "ORDER BY created_at DESC LIMIT 1",
            f"{name}._.{self.uid}",
        )
        return dict(zip(COLUMNS.split(", "), rows[0], strict=True)) if rows else {}

    def foreign_uses(self, name: str) -> int:
        query = "SELECT count(*) FROM workspaces_foreignuse WHERE engine_name = ?"
        return int(self.ask(query, f"{name}._.{self.uid}")[0][0])

    def held(self) -> int:
        query = "SELECT count(*) FROM workspaces_assignment WHERE state IN ('reserved', 'bound')"
        return int(self.ask(query)[0][0])

    def follow(self, what: str, good: Any) -> None:
        """Wait until it is so, for the seconds that the portal has."""
        end = time.monotonic() + FOLLOWS
        while not good():
            assert time.monotonic() < end, f"the portal did not show in {FOLLOWS} s: {what}"
            time.sleep(0.05)

    def shows(self, name: str, state: str) -> dict[str, Any]:
        """Wait for a state; return the row."""
        self.follow(f"{name} {state}", lambda: self.row(name).get("state") == state)
        return self.row(name)


@pytest.fixture(scope="module")
def docker_host() -> str:
    host = os.environ.get("DS01_TEST_DOCKER_HOST", "")
    if not host:
        pytest.fail("DS01_TEST_DOCKER_HOST is not set: run `make test`, which starts an engine.")
    return host


@pytest.fixture(scope="module")
def mlc(docker_host: str) -> Iterator[Mlc]:
    """`mlc` as Alice, whose name and number nobody else on the engine has."""
    uid = 400_000 + uuid.uuid4().int % 90_000
    double = Mlc(host=docker_host, login=f"alice{uid}", uid=uid, gid=uid)
    if not double.has_image(IMAGE):
        pytest.fail(f"The test engine lacks {IMAGE}: run `make test`, which puts it there.")
    yield double
    double.clean_up()


@pytest.fixture(scope="module")
def portal(mlc: Mlc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    """A portal that knows Alice, with its worker running."""
    folder = tmp_path_factory.mktemp("portal")
    environment = make_environment(
        fresh_database("sqlite", folder),
        folder,
        DOCKER_HOST=mlc.host,
        DS01_NETWORK_RANGE=os.environ.get("DS01_NETWORK_RANGE", RANGE),
        DS01_GPUS="simulated:2xL40S-48GB",
    )
    run_python("manage", "migrate", "-v", "0", environment=environment)
    run_python("workspaces.tests.players", "prepare", "0", environment=environment)
    made = Portal(folder=folder, environment=environment, login=mlc.login, uid=mlc.uid)
    people = folder / "people.csv"
    people.write_text(
        "username,email,group,uid,gid\n"
        f"{mlc.login},{mlc.login}@example.org,student,{mlc.uid},{mlc.gid}\n"
    )
    made.manage("import_users", str(people))
    with (folder / "worker.log").open("w") as log:
        worker = subprocess.Popen(
            [sys.executable, "manage.py", "run_worker"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=log,
            text=True,
        )
    try:
        end = time.monotonic() + 30
        while not made.ask("SELECT 1 FROM workspaces_machine WHERE reconciled_at IS NOT NULL"):
            assert time.monotonic() < end, (folder / "worker.log").read_text()[-2000:]
            assert worker.poll() is None, (folder / "worker.log").read_text()[-2000:]
            time.sleep(0.1)
        yield made
    finally:
        worker.send_signal(signal.SIGTERM)
        worker.wait(timeout=40)


@pytest.fixture(autouse=True)
def nothing_left(portal: Portal, mlc: Mlc) -> Iterator[None]:
    """Begin every test with an empty quota."""
    yield
    mlc.clean_up()
    live = "SELECT name FROM workspaces_container WHERE state <> 'removed' AND engine_name LIKE ?"
    portal.follow("nothing", lambda: not portal.ask(live, f"%.{portal.uid}"))


@pytest.fixture
def workspace(mlc: Mlc, tmp_path: Path) -> Path:
    """Alice's own folder, as on the host."""
    for folder in (tmp_path.parent.parent, tmp_path.parent, tmp_path):
        folder.chmod(0o755)
    path = tmp_path / "workspace"
    path.mkdir()
    os.chown(path, mlc.uid, mlc.gid)
    return path


# A container of the portal, in the hands of mlc


def test_mlc_lists_a_container_of_the_portal_with_everything_it_shows(
    portal: Portal, mlc: Mlc
) -> None:
    portal.launch("listed")
    for row in (mlc.list()["listed"], mlc.list(all_users=True)["listed"]):
        assert row["STATUS"].startswith("Up")
        assert row.pop("SIZE")
        assert {key: row[key] for key in ("NAME", "USER", "FRAMEWORK")} == {
            "NAME": "listed",
            "USER": mlc.login,
            "FRAMEWORK": "Python-3",
        }
        assert row["WORK_MOUNT"].startswith(str(portal.folder / "workspaces"))
        assert (row["DATA_MOUNT"], row["MODELS_MOUNT"]) == ("-", "-")
    tag = f"listed._.{mlc.uid}"
    labels = json.loads(mlc.ask("inspect", tag, "--format", "{{json .Config.Labels}}"))
    names = ("", ".NAME", ".USER", ".ARCH", ".MLC_VERSION", ".WORK_MOUNT", ".DATA_MOUNT")
    more = (".MODELS_MOUNT", ".FRAMEWORK", ".GPUS", ".DS01_MANAGED", ".CUSTOM_IMAGE")
    assert {f"aime.mlc{name}" for name in names + more} <= set(labels)
    assert labels["aime.mlc.MLC_VERSION"] == "4"
    assert not [key for key, value in labels.items() if "," in key + value]
    assert mlc.ask("inspect", tag, "--format", "{{.Config.Image}}") == f"ds01/demo-python:{tag}"


def test_mlc_opens_a_shell_in_it_as_the_user(portal: Portal, mlc: Mlc) -> None:
    portal.launch("opened")
    screen = mlc.open("opened", "id", "echo at $PWD of $HOME", "touch by-mlc", "tty")
    assert f"uid={mlc.uid}({mlc.login}) gid={mlc.gid}({mlc.login})" in screen
    assert f"at /workspace of /home/{mlc.login}" in screen
    assert "/dev/pts/" in screen
    written = portal.folder / "workspaces" / mlc.login / "by-mlc"
    assert (written.stat().st_uid, written.stat().st_gid) == (mlc.uid, mlc.gid)
    # Its init is a process more than in mlc's own, so mlc takes it for active and leaves it.
    assert mlc.is_running(f"opened._.{mlc.uid}")
    assert portal.row("opened")["state"] == "running"


def test_mlc_stops_starts_and_opens_it_and_the_portal_follows(portal: Portal, mlc: Mlc) -> None:
    portal.launch("followed", "--gpus", "1")
    assert portal.held() == 1
    mlc.stop("followed")
    row = portal.shows("followed", "stopped")
    assert row["stop_reason"] == "It was stopped outside of the portal."
    assert portal.held() == 1
    mlc.start("followed")
    portal.shows("followed", "running")
    mlc.stop("followed")
    portal.shows("followed", "stopped")
    assert "uid=" in mlc.open("followed", "id")
    portal.shows("followed", "running")
    assert portal.held() == 1
    portal.do("stop", "followed")
    assert mlc.list()["followed"]["STATUS"].startswith("Exited")
    portal.do("start", "followed")
    assert mlc.list()["followed"]["STATUS"].startswith("Up")
    portal.do("remove", "followed")
    assert "followed" not in mlc.names()
    assert portal.held() == 0


def test_mlc_removes_it_and_leaves_the_shared_image(portal: Portal, mlc: Mlc) -> None:
    portal.launch("removed", "--gpus", "1")
    portal.launch("neighbour")
    mlc.stop("removed")
    image = mlc.remove("removed")
    assert image == f"ds01/demo-python:removed._.{mlc.uid}"
    portal.shows("removed", "removed")
    assert "removed" not in mlc.names()
    portal.follow("its tag gone", lambda: not mlc.has_image(image))
    assert mlc.has_image(IMAGE)
    assert mlc.has_image(f"ds01/demo-python:neighbour._.{mlc.uid}")
    portal.follow("its GPU free", lambda: portal.held() == 0)
    assert portal.row("neighbour")["state"] == "running"
    # The name is free again, for either.
    portal.launch("removed")
    assert "removed" in mlc.names()


@pytest.fixture
def image_with_commas(mlc: Mlc) -> Iterator[str]:
    """An image whose labels `mlc list` could not read."""
    reference = f"ds01/commas:{mlc.uid}"
    made = mlc.ask("create", IMAGE, "true")
    mlc.ask("commit", "--change", 'LABEL maintainer="A, B" parts="1,2=3"', made, reference)
    mlc.ask("rm", made)
    yield reference
    mlc.clean_up()
    mlc.ask("image", "rm", reference)


def test_commas_that_came_with_an_image_do_not_break_the_list(
    real_portal: ContainerEngine, launch: Any, image_with_commas: str, mlc: Mlc
) -> None:
    owner = make_person(mlc.login, "student", mlc.uid)
    row = launch(owner, "commas", image=None, reference=image_with_commas)
    assert row.state == "running", row.error
    labels = real_portal.inspect_container(row.engine_name).labels
    assert (labels["maintainer"], labels["parts"]) == ("A; B", "1;2=3")
    assert mlc.list()["commas"]["USER"] == mlc.login


def test_the_double_breaks_at_commas_as_mlc_does(mlc: Mlc, image_with_commas: str) -> None:
    label = ("--label", f"aime.mlc={mlc.login}")
    mlc.ask("create", "--name", f"broken._.{mlc.uid}", *label, image_with_commas, "true")
    with pytest.raises(ValueError, match="not enough values"):
        mlc.list()


# A container of mlc, in the hands of the portal


def test_a_container_of_mlc_create_is_shown_to_its_owner(
    portal: Portal, mlc: Mlc, workspace: Path
) -> None:
    mlc.create("made", image=IMAGE, workspace=workspace, framework="Pytorch-2.7.1", gpus="0")
    portal.follow("what its labels say", lambda: portal.row("made").get("origin") == "mlc")
    row = portal.shows("made", "created")
    assert (row["name"], row["framework"], row["version"]) == ("made", "Pytorch", "2.7.1")
    assert row["workspace_path"] == str(workspace)
    assert row["image_reference"] == f"ds01/demo-python:made._.{mlc.uid}"
    listed = portal.manage("list_containers", "--user", portal.login)
    assert "made" in json.dumps(listed)


def test_the_portal_starts_pauses_stops_and_removes_it_with_its_own_image(
    portal: Portal, mlc: Mlc, workspace: Path
) -> None:
    mlc.create("driven", image=IMAGE, workspace=workspace, framework="Pytorch-2.7.1", gpus="0")
    portal.follow("what its labels say", lambda: portal.row("driven").get("origin") == "mlc")
    portal.do("start", "driven")
    assert mlc.list()["driven"]["STATUS"].startswith("Up")
    portal.do("pause", "driven")
    assert "Paused" in mlc.list()["driven"]["STATUS"]
    portal.do("resume", "driven")
    portal.do("stop", "driven")
    assert mlc.list()["driven"]["STATUS"].startswith("Exited")
    portal.do("remove", "driven")
    assert portal.row("driven")["state"] == "removed"
    assert "driven" not in mlc.names()
    assert not mlc.has_image(f"ds01/demo-python:driven._.{mlc.uid}")
    assert mlc.has_image(IMAGE)
    assert workspace.is_dir()


def test_what_mlc_does_with_its_own_is_followed(portal: Portal, mlc: Mlc, workspace: Path) -> None:
    mlc.create("own", image=IMAGE, workspace=workspace, framework="Pytorch-2.7.1", gpus="0")
    portal.shows("own", "created")
    mlc.start("own")
    portal.shows("own", "running")
    mlc.stop("own")
    assert portal.shows("own", "stopped")["stop_reason"] == "It was stopped outside of the portal."
    assert mlc.remove("own") == f"ds01/demo-python:own._.{mlc.uid}"
    portal.shows("own", "removed")
    assert not mlc.has_image(f"ds01/demo-python:own._.{mlc.uid}")
    assert mlc.has_image(IMAGE)


def test_gpus_that_a_container_of_mlc_uses_are_not_given_out(
    portal: Portal, mlc: Mlc, workspace: Path
) -> None:
    mlc.create("greedy", image=IMAGE, workspace=workspace, framework="Pytorch-2.7.1", gpus="all")
    portal.follow("what its labels say", lambda: portal.row("greedy").get("origin") == "mlc")
    assert portal.foreign_uses("greedy") == 0
    mlc.start("greedy")
    portal.follow("both GPUs taken", lambda: portal.foreign_uses("greedy") == 2)
    refusal = portal.manage(
        *("create_container", portal.login, "late", "--image", IMAGE, "--gpus", "1"), exit_code=1
    )
    assert refusal["error"]["family"] == "quota"
    mlc.stop("greedy")
    portal.follow("both GPUs free", lambda: portal.foreign_uses("greedy") == 0)
    portal.launch("late", "--gpus", "1")
    assert portal.held() == 1
