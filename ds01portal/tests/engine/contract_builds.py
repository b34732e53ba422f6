"""What every container engine must do for image builds; see `contract`.

A step's command is what a real engine runs. What it comes to is told to a fake beforehand by
`rig.plan_step`, which does nothing on a real one.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from ds01portal.engine.base import ImageConfig, ImageDetails, Observed, StepResult, StepSpec
from ds01portal.exceptions import EngineConflict, EngineError, MissingOnEngine

from .contract import MIB, Rig

SECRET = "s3cr3t of $(id) `id` \"and\" 'so' \\n on = größer"


def step_spec(rig: Rig, stem: str = "step", **changes: Any) -> StepSpec:
    base = StepSpec(
        name=rig.name(stem),
        image=rig.image,
        command="true",
        labels={**rig.labels, "ds01.step": stem},
        network="none",
        cpus=1.5,
        memory=128 * MIB,
        memory_swap=128 * MIB,
        pids_limit=64,
    )
    return replace(base, **changes)


def config(**changes: Any) -> ImageConfig:
    base = ImageConfig(
        environment={}, labels={}, working_dir="/workspace", command=("/bin/bash", "-l")
    )
    return replace(base, **changes)


def run_step(
    rig: Rig, spec: StepSpec, environment: Mapping[str, str] | None = None
) -> tuple[StepResult, bytes]:
    """Run a step to its end; return its result and all it said."""
    said: list[bytes] = []
    result = rig.engine.run_step(
        spec, environment=environment or {}, on_output=said.append, should_stop=lambda: False
    )
    return result, b"".join(said)


def make_image(rig: Rig, parent: str, stem: str) -> ImageDetails:
    """Make an untagged image on another, with something of its own in it."""
    spec = step_spec(rig, stem, image=parent, command=f"echo {stem} > /tmp/{stem}")
    assert run_step(rig, spec)[0].exit_code == 0
    made = rig.engine.commit_step(spec.name, config=config(), comment="")
    rig.engine.end_step(spec.name)
    return made


class BuildContract:
    """Inherit, and give a fixture `rig`."""

    def kept_by(self, rig: Rig, container: str, image: str) -> str:
        """Return all that the engine keeps of a container and an image, as text."""
        raise NotImplementedError

    # Running

    def test_a_step_says_what_it_says_in_order_while_it_runs(self, rig: Rig) -> None:
        command = "printf one; sleep 0.3; printf two >&2; sleep 0.3; echo three; exit 7"
        rig.plan_step(match=command, output=(b"one", b"two", b"three\n"), exit_code=7, delay=0.3)
        came: list[tuple[float, bytes]] = []
        result = rig.engine.run_step(
            step_spec(rig, command=command),
            environment={},
            on_output=lambda data: came.append((time.monotonic(), data)),
            should_stop=lambda: False,
        )
        assert result == StepResult(exit_code=7, oom_killed=False, stopped=False)
        assert [data for _, data in came] == [b"one", b"two", b"three\n"]
        gaps = [b - a for (a, _), (b, _) in itertools.pairwise(came)]
        assert all(0.15 < gap < 1.5 for gap in gaps), gaps

    def test_the_container_of_an_ended_step_waits_for_the_commit(self, rig: Rig) -> None:
        spec = step_spec(rig)
        assert run_step(rig, spec)[0].exit_code == 0
        assert rig.engine.inspect_container(spec.name).state is Observed.EXITED

    def test_variables_reach_the_command_and_are_kept_nowhere(self, rig: Rig) -> None:
        command = 'printf %s "$TOKEN$EMPTY"'
        rig.plan_step(match=command, output=lambda given: (given["TOKEN"].encode(),))
        spec = step_spec(rig, command=command)
        result, said = run_step(rig, spec, {"TOKEN": SECRET, "EMPTY": ""})
        assert result.exit_code == 0
        assert said.decode() == SECRET
        image = rig.engine.commit_step(spec.name, config=config(), comment="from a test")
        kept = self.kept_by(rig, spec.name, image.id)
        assert "from a test" in kept
        assert command.replace('"', "") in kept.replace("\\", "").replace('"', "")
        for word in ("s3cr3t", "größer", "gr\\u00f6", "TOKEN=", "EMPTY="):
            assert word not in kept
        assert "NVIDIA_VISIBLE_DEVICES" not in image.environment

    def test_a_step_sees_no_gpu(self, rig: Rig) -> None:
        command = 'printf %s "$NVIDIA_VISIBLE_DEVICES"'
        rig.plan_step(
            match=command, output=lambda given: (given["NVIDIA_VISIBLE_DEVICES"].encode(),)
        )
        spec = step_spec(rig, command=command)
        assert run_step(rig, spec)[1] == b"void"
        host = rig.engine.inspect_container(spec.name).raw["HostConfig"]
        assert not host["DeviceRequests"]
        assert host["Runtime"] == "runc"

    @pytest.mark.parametrize(
        "environment", [{"A": "x\ny"}, {"A": "x\0y"}, {"": "x"}, {"A-B": "x"}, {"1A": "x"}]
    )
    def test_variables_that_a_line_cannot_carry_are_refused(
        self, rig: Rig, environment: dict[str, str]
    ) -> None:
        with pytest.raises(ValueError, match=r"variable|value"):
            run_step(rig, step_spec(rig), environment)
        with pytest.raises(MissingOnEngine):
            rig.engine.inspect_container(rig.name("step"))

    def test_the_limits_and_the_walls_of_a_step_hold_on_its_container(self, rig: Rig) -> None:
        spec = step_spec(rig, memory_swap=192 * MIB, pids_limit=48)
        rig.engine.prepare_step(spec)
        seen = rig.engine.inspect_container(spec.name)
        host = seen.raw["HostConfig"]
        assert host["Privileged"] is False
        assert host["CapDrop"] == ["ALL"]
        assert {name.removeprefix("CAP_") for name in host["CapAdd"]} == {
            "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETFCAP", "SETGID", "SETUID",
        }  # fmt: skip
        assert host["SecurityOpt"] == ["no-new-privileges"]
        assert host["NetworkMode"] == "none"
        assert host["IpcMode"] == "private"
        assert host["PidMode"] == host["UTSMode"] == host["UsernsMode"] == ""
        assert not host["Devices"]
        assert not host["Binds"]
        assert not host["Init"]
        assert host["NanoCpus"] == 1_500_000_000
        assert (host["Memory"], host["MemorySwap"]) == (128 * MIB, 192 * MIB)
        assert (host["PidsLimit"], host["ShmSize"]) == (48, 64 * MIB)
        assert host["LogConfig"]["Type"] == "none"
        assert seen.mounts == ()
        assert seen.user == "0:0"
        assert seen.state is Observed.CREATED

    def test_a_step_of_a_missing_image_or_network_fails_and_says_which(self, rig: Rig) -> None:
        with pytest.raises(MissingOnEngine):
            run_step(rig, step_spec(rig, image="ds01/nothing:0"))
        with pytest.raises(EngineError) as failed:
            run_step(rig, step_spec(rig, network=f"nowhere-{rig.run_id}"))
        assert not isinstance(failed.value, MissingOnEngine)

    def test_a_long_command_runs_and_one_that_is_too_long_is_refused(self, rig: Rig) -> None:
        rig.plan_step(match="echo long", output=(b"long\n",))
        command = "echo long #".ljust(131_071, "x")
        assert run_step(rig, step_spec(rig, command=command))[1] == b"long\n"
        for attempt in (rig.engine.prepare_step, lambda spec: run_step(rig, spec)):
            with pytest.raises(ValueError, match="131071"):
                attempt(step_spec(rig, command=f"{command}x"))

    # Stopping

    def test_a_step_is_killed_at_once_when_it_has_to_stop(self, rig: Rig) -> None:
        command = "trap '' TERM; echo started; sleep 60"
        rig.plan_step(match=command, output=(b"started\n",), delay=30)
        spec = step_spec(rig, command=command)
        said_yes: list[float] = []
        began = time.monotonic()

        def should_stop() -> bool:
            if time.monotonic() - began < 1:
                return False
            said_yes.append(time.monotonic())
            return True

        result = rig.engine.run_step(
            spec, environment={}, on_output=lambda _: None, should_stop=should_stop
        )
        assert time.monotonic() - said_yes[0] < 1
        assert result == StepResult(exit_code=137, oom_killed=False, stopped=True)
        assert rig.engine.inspect_container(spec.name).state is Observed.EXITED

    def test_a_step_that_has_to_stop_before_it_begins_leaves_nothing(self, rig: Rig) -> None:
        spec = step_spec(rig)
        result = rig.engine.run_step(
            spec, environment={}, on_output=lambda _: None, should_stop=lambda: True
        )
        assert result == StepResult(exit_code=None, oom_killed=False, stopped=True)
        with pytest.raises(MissingOnEngine):
            rig.engine.inspect_container(spec.name)

    def test_a_silent_step_is_asked_about_ten_times_a_second(self, rig: Rig) -> None:
        rig.plan_step(match="sleep 1.5", delay=1.5)
        asked: list[float] = []

        def should_stop() -> bool:
            asked.append(time.monotonic())
            return False

        rig.engine.run_step(
            step_spec(rig, command="sleep 1.5"),
            environment={},
            on_output=lambda _: None,
            should_stop=should_stop,
        )
        # The first is asked before the container is made, the second when it has started.
        gaps = [b - a for a, b in itertools.pairwise(asked[1:])]
        assert len(gaps) >= 10
        assert sorted(gaps)[len(gaps) // 2] <= 0.12

    def test_a_listener_that_fails_kills_the_step_and_is_heard(self, rig: Rig) -> None:
        command = "echo hello; sleep 60"
        rig.plan_step(match=command, output=(b"hello\n", b""), delay=0.1)
        spec = step_spec(rig, command=command)

        def fail(data: bytes) -> None:
            raise OSError("the disk of the log is full")

        began = time.monotonic()
        with pytest.raises(OSError, match="disk of the log"):
            rig.engine.run_step(spec, environment={}, on_output=fail, should_stop=lambda: False)
        assert time.monotonic() - began < 10
        assert rig.engine.inspect_container(spec.name).state is Observed.EXITED

    def test_a_step_that_wants_too_much_memory_is_told_apart(self, rig: Rig) -> None:
        rig.plan_step(match="tail /dev/zero", oom=True)
        spec = step_spec(rig, command="tail /dev/zero", memory=32 * MIB, memory_swap=32 * MIB)
        result, _ = run_step(rig, spec)
        assert result == StepResult(exit_code=137, oom_killed=True, stopped=False)

    def test_a_step_can_be_ended_from_elsewhere(self, rig: Rig) -> None:
        rig.plan_step(match="sleep 61", delay=20)
        spec = step_spec(rig, command="sleep 61")
        threading.Timer(1, rig.engine.stop_container, (spec.name,), {"timeout": 0}).start()
        result, _ = run_step(rig, spec)
        assert result == StepResult(exit_code=137, oom_killed=False, stopped=False)

    # Names

    def test_a_leftover_of_the_same_step_is_replaced_in_any_state(self, rig: Rig) -> None:
        spec = step_spec(rig)
        rig.engine.prepare_step(spec)
        first = rig.engine.inspect_container(spec.name).id
        rig.engine.prepare_step(spec)
        rig.engine.start_container(spec.name)
        second = rig.engine.inspect_container(spec.name)
        assert second.state is Observed.RUNNING
        assert run_step(rig, spec)[0].exit_code == 0
        third = rig.engine.inspect_container(spec.name).id
        assert len({first, second.id, third}) == 3
        with pytest.raises(MissingOnEngine):
            rig.engine.inspect_container(second.id)

    def test_a_container_of_somebody_else_is_never_taken_for_a_leftover(self, rig: Rig) -> None:
        spec = step_spec(rig)
        rig.engine.prepare_step(spec)
        kept = rig.engine.inspect_container(spec.name).id
        for labels in ({**spec.labels, "ds01.step": "another"}, {**spec.labels, "more": "x"}, {}):
            with pytest.raises(EngineConflict):
                run_step(rig, replace(spec, labels=labels))
            with pytest.raises(EngineConflict):
                rig.engine.prepare_step(replace(spec, labels=labels))
        assert rig.engine.inspect_container(spec.name).id == kept

    def test_the_end_of_a_step_may_be_repeated(self, rig: Rig) -> None:
        spec = step_spec(rig)
        rig.engine.prepare_step(spec)
        rig.engine.start_container(spec.name)
        for _ in range(2):
            rig.engine.end_step(spec.name)
        with pytest.raises(MissingOnEngine):
            rig.engine.inspect_container(spec.name)

    # Commits

    def test_a_committed_image_has_the_bases_settings_and_its_own(self, rig: Rig) -> None:
        base = rig.engine.inspect_image(rig.image)
        first = step_spec(rig, "first", command="echo 1 > /tmp/first")
        run_step(rig, first)
        one = rig.engine.commit_step(
            first.name,
            config=config(environment={"A": "1", "B": "x=y z"}, labels={"layer": "one"}),
            comment="one",
        )
        second = step_spec(rig, "second", image=one.id, command="echo 2 > /tmp/second")
        run_step(rig, second)
        two = rig.engine.commit_step(
            second.name,
            config=config(environment={"B": "changed"}, labels={"layer": "two"}, user="1000:1000"),
            comment="two",
        )
        assert (one.parent, two.parent) == (base.id, one.id)
        assert (one.tags, two.tags) == ((), ())
        assert one.environment == {**base.environment, "A": "1", "B": "x=y z"}
        assert two.environment == {**base.environment, "A": "1", "B": "changed"}
        # The container's labels come along; without them no step could be told from another.
        assert one.labels == {**base.labels, **first.labels, "layer": "one"}
        assert two.labels == {**base.labels, **second.labels, "layer": "two"}
        assert (one.user, two.user) == ("0:0", "1000:1000")
        assert two.size >= one.size >= base.size
        assert rig.engine.inspect_image(two.id) == two
        assert not [image for image in rig.engine.list_images() if image.id in (one.id, two.id)]

    def test_a_step_that_never_ran_can_be_committed(self, rig: Rig) -> None:
        spec = step_spec(rig)
        rig.engine.prepare_step(spec)
        image = rig.engine.commit_step(
            spec.name, config=config(labels={"only": "labels"}), comment=""
        )
        assert image.parent == rig.engine.inspect_image(rig.image).id
        assert image.labels["only"] == "labels"
        assert run_step(rig, step_spec(rig, "next", image=image.id))[0].exit_code == 0

    def test_an_image_without_a_command_would_keep_the_steps_and_is_refused(self, rig: Rig) -> None:
        rig.engine.prepare_step(step_spec(rig))
        with pytest.raises(ValueError, match="command"):
            rig.engine.commit_step(rig.name("step"), config=config(command=()), comment="")

    def test_what_is_missing_can_be_neither_measured_nor_committed(self, rig: Rig) -> None:
        with pytest.raises(MissingOnEngine):
            rig.engine.written_bytes("nobody-of-that-name")
        with pytest.raises(MissingOnEngine):
            rig.engine.commit_step("nobody-of-that-name", config=config(), comment="")

    def test_what_a_step_has_written_can_be_measured(self, rig: Rig) -> None:
        command = "dd if=/dev/zero of=/tmp/zeros bs=1M count=3"
        rig.plan_step(match=command, written=3 * MIB)
        spec = step_spec(rig, command=command)
        rig.engine.prepare_step(spec)
        assert rig.engine.written_bytes(spec.name) < 10_000
        run_step(rig, spec)
        assert 3 * MIB <= rig.engine.written_bytes(spec.name) < 3 * MIB + 10_000

    # Images

    def test_images_are_found_by_label_and_only_the_ends_dangle(self, rig: Rig) -> None:
        one = make_image(rig, rig.image, "one")
        two = make_image(rig, one.id, "two")
        three = make_image(rig, one.id, "three")
        found = {image.id: image for image in rig.engine.find_images(label=rig.label)}
        assert set(found) == {one.id, two.id, three.id}
        assert found[two.id].parent == one.id
        assert found[two.id].labels == two.labels
        named = rig.engine.find_images(label="ds01.step=two")
        assert [image.id for image in named if image.id in found] == [two.id]
        assert found.keys() <= {image.id for image in rig.engine.find_images(label="ds01.test")}
        assert rig.engine.find_images(label=f"{rig.label}-else") == []

        dangling = rig.engine.list_dangling_images(label=rig.label)
        assert {image.id for image in dangling} == {two.id, three.id}
        rig.engine.tag_image(two.id, f"ds01-test/{rig.run_id}:1")
        dangling = rig.engine.list_dangling_images(label=rig.label)
        assert {image.id for image in dangling} == {three.id}

    def test_an_image_goes_with_its_parents_but_never_a_shared_one(self, rig: Rig) -> None:
        one = make_image(rig, rig.image, "one")
        two = make_image(rig, one.id, "two")
        left = make_image(rig, two.id, "left")
        right = make_image(rig, one.id, "right")
        with pytest.raises(EngineConflict):
            rig.engine.remove_image(one.id)
        assert rig.engine.remove_image(left.id) is True
        assert rig.engine.remove_image(left.id) is False
        kept = {image.id for image in rig.engine.find_images(label=rig.label)}
        assert kept == {one.id, right.id}
        assert rig.engine.remove_image(right.id) is True
        assert rig.engine.find_images(label=rig.label) == []
        assert rig.image in rig.engine.inspect_image(rig.image).tags

    def test_a_tag_goes_alone_and_the_last_one_takes_the_image(self, rig: Rig) -> None:
        image = make_image(rig, rig.image, "one")
        first, second = (f"ds01-test/{rig.run_id}:{number}" for number in (1, 2))
        for tag in (first, second):
            rig.engine.tag_image(image.id, tag)
        with pytest.raises(EngineConflict):
            rig.engine.remove_image(image.id)
        assert rig.engine.remove_image(first) is True
        assert rig.engine.remove_image(first) is False
        assert rig.engine.inspect_image(image.id).tags == (second,)
        assert rig.engine.remove_image(second) is True
        with pytest.raises(MissingOnEngine):
            rig.engine.inspect_image(image.id)

    def test_an_image_that_a_container_uses_stays(self, rig: Rig) -> None:
        image = make_image(rig, rig.image, "one")
        tag = f"ds01-test/{rig.run_id}:1"
        user = step_spec(rig, "user", image=image.id)
        rig.engine.prepare_step(user)
        with pytest.raises(EngineConflict):
            rig.engine.remove_image(image.id)
        rig.engine.tag_image(image.id, tag)
        with pytest.raises(EngineConflict):
            rig.engine.remove_image(tag)
        assert rig.engine.inspect_image(tag).id == image.id
        rig.engine.end_step(user.name)
        assert rig.engine.remove_image(tag) is True
        assert rig.engine.find_images(label=rig.label) == []

    def test_a_tag_of_an_image_that_others_were_made_on_goes_alone(self, rig: Rig) -> None:
        one = make_image(rig, rig.image, "one")
        two = make_image(rig, one.id, "two")
        tag = f"ds01-test/{rig.run_id}:1"
        for remove in (rig.engine.remove_image, rig.engine.untag_image):
            rig.engine.tag_image(one.id, tag)
            remove(tag)
            assert rig.engine.inspect_image(one.id).tags == ()
        assert rig.engine.remove_image(two.id) is True
        assert rig.engine.find_images(label=rig.label) == []

    def test_only_what_is_named_fully_can_be_removed(self, rig: Rig) -> None:
        repository = rig.image.rpartition(":")[0]
        for reference in (repository, f"{repository}@sha256:{'0' * 64}"):
            with pytest.raises(EngineError):
                rig.engine.remove_image(reference)
        assert rig.engine.remove_image("ds01/nothing:0") is False
        assert rig.engine.remove_image(f"sha256:{'0' * 64}") is False
        assert rig.image in rig.engine.inspect_image(rig.image).tags

    def test_shared_layers_are_counted_once(self, rig: Rig) -> None:
        before = rig.engine.read_layers_size()
        assert before is not None
        assert before >= rig.engine.inspect_image(rig.image).size
        for stem in ("one", "two"):
            make_image(rig, rig.image, stem)
        after = rig.engine.read_layers_size()
        assert after is not None
        assert after - before < MIB

    def test_an_engine_tells_what_it_runs_and_stores_with(self, rig: Rig) -> None:
        info = rig.engine.info()
        assert info.runc_version[0].isdigit()
        assert info.storage_driver
