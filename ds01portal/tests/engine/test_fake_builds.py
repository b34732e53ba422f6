"""The fake engine's builds keep the contract, and end as they are told to."""

from __future__ import annotations

import threading

import pytest

from ds01portal.engine.base import Observed
from ds01portal.engine.fake import FakeEngine
from ds01portal.exceptions import EngineError, EngineUnreachable

from .contract import Rig
from .contract_builds import BuildContract, config, run_step, step_spec
from .test_fake import fake, rig

__all__ = ["fake", "rig"]  # fixtures


class TestFakeBuilds(BuildContract):
    def kept_by(self, rig: Rig, container: str, image: str) -> str:
        assert isinstance(rig.engine, FakeEngine)
        raw = rig.engine.inspect_container(container).raw
        return f"{raw} {rig.engine.images[image]} {rig.engine.read_logs(container)!r}"


def test_a_step_nobody_scripted_says_its_command_and_succeeds(fake: FakeEngine, rig: Rig) -> None:
    result, said = run_step(rig, step_spec(rig, command="pip install numpy"), {"A": "1"})
    assert (result.exit_code, said) == (0, b"pip install numpy\n")
    (ran,) = fake.steps
    assert ran.spec.command == "pip install numpy"
    assert ran.environment == {"NVIDIA_VISIBLE_DEVICES": "void", "A": "1"}


def test_the_last_script_that_matches_counts(fake: FakeEngine, rig: Rig) -> None:
    fake.script_step(match="pip", output=(b"no network\n",), exit_code=1)
    assert run_step(rig, step_spec(rig, command="pip install x"))[0].exit_code == 1
    fake.script_step(match="pip install", written=5_000)
    spec = step_spec(rig, command="pip install x")
    assert run_step(rig, spec)[0].exit_code == 0
    assert fake.written_bytes(spec.name) == 5_000
    assert run_step(rig, step_spec(rig, command="apt-get update"))[1] == b"apt-get update\n"


def test_an_engine_that_goes_down_cuts_a_step_off_which_lives_on(
    fake: FakeEngine, rig: Rig
) -> None:
    fake.script_step(match="long", output=(b"going\n",), delay=0.3)
    spec = step_spec(rig, command="long")
    threading.Timer(0.1, fake.go_down).start()
    with pytest.raises(EngineUnreachable):
        run_step(rig, spec)
    fake.come_up()
    assert fake.inspect_container(spec.name).state is Observed.RUNNING
    assert run_step(rig, spec)[0].exit_code == 0


def test_a_commit_can_fail_and_be_tried_again(fake: FakeEngine, rig: Rig) -> None:
    spec = step_spec(rig)
    run_step(rig, spec)
    fake.fail_next("commit_step", EngineError("no space left"))
    with pytest.raises(EngineError, match="no space"):
        fake.commit_step(spec.name, config=config(), comment="")
    made = fake.commit_step(spec.name, config=config(command=("sh",)), comment="why")
    kept = fake.images[made.id]
    assert kept.history == (("/bin/sh -c true", "why"),)
    assert (kept.command, kept.working_dir) == (("sh",), "/workspace")


def test_files_of_the_base_are_in_what_was_made_on_it(fake: FakeEngine, rig: Rig) -> None:
    spec = step_spec(rig)
    run_step(rig, spec)
    made = fake.commit_step(spec.name, config=config(), comment="")
    assert fake.read_image_files(made.id, ("/etc/passwd",))["/etc/passwd"].startswith(b"root")
