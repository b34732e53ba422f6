"""Several processes ask for builds and carry them out on one database, and every rule holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from workspaces.tests.processes import (
    ask_python,
    fresh_database,
    make_environment,
    run_python,
    start_python,
)

pytestmark = [pytest.mark.race, pytest.mark.timeout(300)]
PLAYERS = "workspaces.tests.build_players"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def environment(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """A migrated database of the kind; each process has an engine of its own, in memory."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    found = make_environment(
        fresh_database(request.param, folder),
        folder,
        DS01_GPUS="simulated:1xA100-40GB",
        DS01_ENGINE="ds01portal.engine.fake.FakeEngine",
        DATABASE_POOL_SIZE="4",
    )
    run_python("manage", "migrate", "-v", "0", environment=found)
    ask_python(PLAYERS, "prepare", '{"people": 4, "engine_id": "fake"}', environment=found)
    return found


def run_together(
    verb: str, wishes: list[dict[str, Any]], environment: dict[str, str]
) -> list[dict[str, Any]]:
    """Run one player for each of the wishes at the same time; return what they say."""
    processes = [
        start_python(PLAYERS, verb, json.dumps(one), environment=environment) for one in wishes
    ]
    answers = []
    for process in processes:
        out, err = process.communicate(timeout=200)
        assert process.returncode == 0, err[-3000:]
        answers.append(json.loads(out.strip().splitlines()[-1]))
    return answers


def test_a_build_asked_for_by_many_at_once_is_one_build(environment):
    ask_python(PLAYERS, "add_recipe", '{"name": "thesis"}', environment=environment)

    answers = run_together("ask_often", [{"name": "thesis", "times": 20}] * 4, environment)

    assert len({build for answer in answers for build in answer["builds"]}) == 1
    assert ask_python(PLAYERS, "count", '{"name": "thesis"}', environment=environment) == {
        "builds": 1,
        "operations": 1,
        "events": 1,
    }
    ask_python(PLAYERS, "work", environment=environment)


def test_the_quota_of_images_holds_for_many_requests_at_once(environment):
    ask_python(PLAYERS, "limit_images", '{"images": 3}', environment=environment)
    wishes = [{"number": number, "count": 3} for number in range(4)]

    answers = run_together("create_many", wishes, environment)

    assert sum(answer["created"] for answer in answers) == 3
    assert sum(answer["refused"] for answer in answers) == 9


def test_nobody_has_more_builds_at_once_than_a_person_may_and_all_end(environment):
    ask_python(PLAYERS, "set_policy", '{"builds_in_all": 3, "builds_per_person": 1}',
               environment=environment)  # fmt: skip
    for person in range(3):
        ask_python(PLAYERS, "ask_many", json.dumps({"person": person, "count": 4}),
                   environment=environment)  # fmt: skip

    answers = run_together("work", [{}] * 4, environment)

    assert [answer["broken"] for answer in answers] == [[], [], [], []]
    assert max(answer["most"] for answer in answers) > 1
    assert ask_python(PLAYERS, "live", environment=environment) == {"operations": 0}
    states = ask_python(PLAYERS, "states", '{"beginning": "many"}', environment=environment)
    assert states == {"done": 12, "images": 12}
