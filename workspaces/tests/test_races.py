"""Processes racing on one database: no device is ever held twice, none leaks."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from workspaces.tests.processes import (
    ask_python,
    fresh_database,
    make_environment,
    run_python,
    start_python,
)

pytestmark = [pytest.mark.race, pytest.mark.timeout(600)]
PLAYERS = "workspaces.tests.players"
FIVE_DEVICES = "simulated:3xA100-40GB,1xH100-80GB:3g.40gb+4g.40gb"


@pytest.fixture(params=["sqlite", "postgresql"])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """A migrated database of the kind, and an environment for processes on it."""
    found = make_environment(
        fresh_database(request.param, tmp_path),
        tmp_path,
        DS01_GPUS=FIVE_DEVICES,
        DS01_ENGINE="ds01portal.engine.fake.FakeEngine",
        DATABASE_POOL_SIZE="4",
        NO_HOLD="1",
    )
    run_python("manage", "migrate", "-v", "0", environment=found)
    return found


def run_together(count: int, *arguments: str, environment: dict[str, str]) -> Counter[str]:
    """Run players at the same time and add up what they counted."""
    processes = [
        start_python(
            PLAYERS, *(part.format(n=number) for part in arguments), environment=environment
        )
        for number in range(count)
    ]
    total: Counter[str] = Counter()
    for process in processes:
        out, err = process.communicate(timeout=550)
        assert process.returncode == 0, err[-3000:]
        total.update(json.loads(out.strip().splitlines()[-1]))
    return total


def test_eight_processes_never_hold_a_device_twice_and_leak_none(environment, capsys):
    assert ask_python(PLAYERS, "prepare", "8", environment=environment) == {"devices": 5}

    counts = run_together(8, "play", "{n}", "200", "7", environment=environment)
    left = ask_python(PLAYERS, "left", environment=environment)

    with capsys.disabled():
        print(f"\n{environment['DATABASE_URL'].split(':')[0]}: {dict(counts)} left: {left}")
    assert counts["double holds"] == 0
    assert counts["containers left on the engine"] == 0
    assert {key: left[key] for key in ("held", "double", "operations", "containers")} == {
        "held": 0,
        "double": 0,
        "operations": 0,
        "containers": 0,
    }
    assert counts["launched"] > 200
    assert counts["crashes"] > 50
    assert counts["refused no-free-device"] > 50
    assert left["assignments"] > 100


def test_every_operation_is_claimed_once(environment):
    ask_python(PLAYERS, "queue", "300", environment=environment)

    counts = run_together(4, "claim", "w{n}", environment=environment)

    assert counts == {"claimed": 300}
