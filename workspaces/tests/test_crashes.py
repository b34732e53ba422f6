"""A worker killed with -9 in any phase: the next one brings every operation to its right end."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ds01portal.engine.base import ContainerEngine, Observed
from ds01portal.exceptions import MissingOnEngine
from workspaces.services.launches import PHASES
from workspaces.tests.processes import (
    ask_python,
    fresh_database,
    make_environment,
    run_python,
    start_python,
)

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]
PLAYERS = "workspaces.tests.players"
UID = 300_000


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """One portal with its database for all phases, on the private test engine."""
    host = os.environ.get("DS01_TEST_DOCKER_HOST")
    if not host:
        pytest.fail("DS01_TEST_DOCKER_HOST is not set: run `make test`, which starts an engine.")
    folder: Path = tmp_path_factory.mktemp("crashes")
    found = make_environment(
        fresh_database("sqlite", folder),
        folder,
        DOCKER_HOST=host,
        DS01_GPUS="simulated:2xA100-40GB",
    )
    run_python("manage", "migrate", "-v", "0", environment=found)
    ask_python(PLAYERS, "prepare", "1", environment=found)
    yield found


def die_in(phase: str, environment: dict[str, str]) -> None:
    """Run a worker that is killed with -9 as it enters the phase."""
    process = start_python(PLAYERS, "die", phase, environment=environment)
    _out, err = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, err[-2000:]


def is_on_engine(engine: ContainerEngine, name: str) -> bool:
    try:
        return engine.inspect_container(name).state is Observed.RUNNING
    except MissingOnEngine:
        return False


def tags(engine: ContainerEngine, name: str) -> list[str]:
    return [tag for image in engine.list_images() for tag in image.tags if name in tag]


@pytest.mark.parametrize("phase", PHASES)
def test_killed_in_a_launch_it_ends_running(environment, real_engine, phase):
    name = f"{phase}-{uuid.uuid4().hex[:6]}"
    ask_python(PLAYERS, "ask", name, "1", environment=environment)

    die_in(phase, environment)
    result = ask_python(PLAYERS, "go_on", environment=environment)

    assert result == {"state": "running", "operation": "done", "held": 1, "error": ""}
    assert is_on_engine(real_engine, f"{name}._.{UID}")

    ask_python(PLAYERS, "verb", name, "remove", environment=environment)
    die_in("remove", environment)
    gone = ask_python(PLAYERS, "go_on", environment=environment)
    assert gone == {"state": "removed", "operation": "done", "held": 0, "error": ""}
    assert not is_on_engine(real_engine, f"{name}._.{UID}")
    assert tags(real_engine, name) == []


def test_killed_while_undoing_it_ends_failed_with_nothing_left(environment, real_engine):
    name = f"undo-{uuid.uuid4().hex[:6]}"
    ask_python(PLAYERS, "ask", name, "1", environment=environment)
    ask_python(PLAYERS, "break", environment=environment)

    die_in("undo", environment)
    result = ask_python(PLAYERS, "go_on", environment=environment)

    assert result == {
        "state": "failed",
        "operation": "failed",
        "held": 0,
        "error": "image-pull-failed",
    }
    assert not is_on_engine(real_engine, f"{name}._.{UID}")
    assert tags(real_engine, name) == []
    ask_python(PLAYERS, "verb", name, "remove", environment=environment)
    ask_python(PLAYERS, "go_on", environment=environment)


@pytest.mark.parametrize("verb", ["stop", "restart", "pause"])
def test_killed_in_another_verb_it_is_done_by_the_next_worker(environment, real_engine, verb):
    name = f"{verb}-{uuid.uuid4().hex[:6]}"
    ask_python(PLAYERS, "ask", name, "1", environment=environment)
    ask_python(PLAYERS, "go_on", environment=environment)

    ask_python(PLAYERS, "verb", name, verb, environment=environment)
    die_in(verb, environment)
    result = ask_python(PLAYERS, "go_on", environment=environment)

    expected = {"stop": "stopped", "restart": "running", "pause": "paused"}[verb]
    assert result == {"state": expected, "operation": "done", "held": 1, "error": ""}
    ask_python(PLAYERS, "verb", name, "remove", environment=environment)
    ask_python(PLAYERS, "go_on", environment=environment)
