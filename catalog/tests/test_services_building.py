"""Builds from the request to the version, on the engine in memory.

Alice has a recipe with three layers; what goes wrong leaves nothing behind but its reason.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone

from catalog.models import Build, BuildPolicy, Image, Recipe
from catalog.services.build_layers import BUILDER_LABEL, LAYER_LABEL, step_name
from catalog.services.building import carry_out_build
from catalog.services.builds import cancel_build, queue_position, request_build
from ds01portal.engine.fake import FakeEngine
from ds01portal.exceptions import EngineError, EngineUnreachable, RefusedError
from ds01portal.models import Event, Operation, Person
from ds01portal.services.operations import Work, claim_operation

DEMO = "ds01/demo-python:1"
RunDue = Callable[[], int]

CONTENT: dict[str, Any] = {
    "base": {"kind": "reference", "reference": DEMO},
    "jupyter": {"choice": "default", "packages": []},
    "data_science": {"choice": "none", "packages": []},
    "use_case": "",
    "use_case_packages": [],
    "requirements": "torchmetrics>=1.0,<2\n",
    "apt": ["git"],
    "environment": {"HF_TOKEN": "hf_abcdefghijklmnop"},
    "post_install": [],
    "fresh": False,
}


def make_recipe(owner: Person, name: str = "thesis", **content: Any) -> Recipe:
    """Make a recipe as the page would have stored it."""
    return Recipe.objects.create(owner=owner, name=name, content={**CONTENT, **content})


@pytest.fixture
def recipe(alice: Person, fake_engine: FakeEngine, demo_image: Image) -> Recipe:
    """Alice's recipe on the demo image."""
    return make_recipe(alice)


def change_policy(**values: Any) -> None:
    """Let an admin change the rules."""
    BuildPolicy.objects.update_or_create(pk=1, defaults=values)


def log_of(build: Build) -> str:
    """Return all that a build's page shows."""
    return "\n".join(build.output.values_list("text", flat=True))


def build_now(recipe: Recipe, run_due: RunDue, **options: Any) -> Build:
    """Ask for a build and carry it out."""
    build = request_build(recipe=recipe, actor=recipe.owner, **options)
    run_due()
    build.refresh_from_db()
    return build


def count_images(engine: FakeEngine) -> int:
    """Return how many images there are, untagged ones and parents too."""
    return len(engine.images)


class TestABuildThatSucceeds:
    def test_becomes_the_first_version_with_its_tags(
        self, recipe: Recipe, run_due: RunDue, fake_engine: FakeEngine
    ) -> None:
        build = build_now(recipe, run_due)

        assert build.state == Build.State.DONE
        image = build.image
        assert image is not None
        assert image.reference == "ds01-200001/thesis:1"
        assert (image.kind, image.number, image.owner) == ("custom", 1, recipe.owner)
        assert image.is_launchable
        latest = fake_engine.inspect_image("ds01-200001/thesis:latest")
        assert latest.id == image.engine_image_id == fake_engine.inspect_image(image.reference).id
        assert [step["state"] for step in build.steps] == ["done"] * 3
        assert image.own_bytes == sum(layer["bytes"] for layer in image.layers) > 0
        assert Event.objects.filter(verb="built", owner=recipe.owner).count() == 1

    def test_has_one_layer_a_step_in_the_order_that_keeps_the_cache(
        self, recipe: Recipe, run_due: RunDue, fake_engine: FakeEngine
    ) -> None:
        build_now(recipe, run_due)

        commands = [step.spec.command for step in fake_engine.steps]
        assert ["apt-get" in commands[0], "jupyterlab" in commands[1]] == [True, True]
        assert "torchmetrics>=1.0,<2" in commands[2]

    def test_runs_its_steps_with_the_limits_of_the_policy_on_a_network_of_their_own(
        self, recipe: Recipe, run_due: RunDue, fake_engine: FakeEngine
    ) -> None:
        change_policy(cpus=1.5, memory_bytes=3 * 1024**3, pids=99)

        build_now(recipe, run_due)

        spec = fake_engine.steps[0].spec
        assert (spec.cpus, spec.memory, spec.memory_swap, spec.pids_limit) == (
            1.5,
            3 * 1024**3,
            3 * 1024**3,
            99,
        )
        assert spec.network == "ds01-builds"
        assert "ds01-builds" in fake_engine.list_networks(label="aime.mlc.DS01_BUILDS")

    def test_gives_the_sites_addresses_to_the_steps_and_to_nothing_else(
        self, recipe: Recipe, run_due: RunDue, fake_engine: FakeEngine, settings: Any
    ) -> None:
        settings.DS01_PIP_INDEX_URL = "http://builder:s3cret@pypi.campus.example/simple"
        settings.DS01_BUILD_PROXIES = {"HTTP_PROXY": "http://proxy.campus.example:3128"}
        fake_engine.script_step(
            match="torchmetrics",
            output=lambda env: [f"Looking in indexes: {env['PIP_INDEX_URL']}\n".encode()],
        )

        build = build_now(recipe, run_due)

        given = fake_engine.steps[0].environment
        assert given["PIP_INDEX_URL"] == settings.DS01_PIP_INDEX_URL
        assert given["PIP_TRUSTED_HOST"] == "pypi.campus.example"
        assert given["http_proxy"] == given["HTTP_PROXY"] == "http://proxy.campus.example:3128"
        assert build.image is not None
        assert "s3cret" not in log_of(build)
        assert "Looking in indexes" in log_of(build)
        everything = f"{build.dockerfile}{build.steps}{build.plan}{fake_engine.images.values()}"
        assert "campus.example" not in everything

    def test_masks_the_values_of_variables_that_look_secret(
        self, recipe: Recipe, run_due: RunDue, fake_engine: FakeEngine
    ) -> None:
        fake_engine.script_step(match="git", output=[b"token is hf_abcdefghij", b"klmnop!\n"])

        build = build_now(recipe, run_due)

        assert "hf_abcdefghijklmnop" not in log_of(build)
        assert "token is" in log_of(build)

    def test_leaves_no_container_and_no_label_of_a_builder(
        self, recipe: Recipe, run_due: RunDue, fake_engine: FakeEngine
    ) -> None:
        build = build_now(recipe, run_due)

        assert fake_engine.list_containers() == []
        assert build.image is not None
        labels = fake_engine.inspect_image(build.image.reference).labels
        assert labels[BUILDER_LABEL] == ""
        assert labels[LAYER_LABEL]
        assert not any("," in value for value in labels.values())

    def test_takes_the_layers_of_an_earlier_build_of_the_same(
        self, recipe: Recipe, run_due: RunDue, fake_engine: FakeEngine
    ) -> None:
        build_now(recipe, run_due)
        ran = len(fake_engine.steps)

        second = build_now(recipe, run_due)

        assert len(fake_engine.steps) == ran
        assert [step["state"] for step in second.steps] == ["cached"] * 3
        assert second.number == 2
        assert "taken from an earlier build" in log_of(second)
        latest = fake_engine.inspect_image("ds01-200001/thesis:latest")
        assert "ds01-200001/thesis:2" in latest.tags

    def test_makes_everything_anew_when_asked_to(
        self, recipe: Recipe, run_due: RunDue, fake_engine: FakeEngine
    ) -> None:
        first = build_now(recipe, run_due)
        second = build_now(recipe, run_due, fresh=True)

        assert [step["state"] for step in second.steps] == ["done"] * 3
        assert first.image is not None
        assert second.image is not None
        assert first.image.engine_image_id != second.image.engine_image_id

    def test_keeps_as_many_versions_as_the_policy_says(
        self, recipe: Recipe, run_due: RunDue
    ) -> None:
        change_policy(versions_kept=2)

        for _round in range(4):
            build_now(recipe, run_due, fresh=True)

        kept = Image.objects.custom().active().filter(recipe=recipe)
        assert sorted(kept.values_list("number", flat=True)) == [3, 4]


class TestABuildThatFails:
    def test_says_which_step_why_and_what_to_do(
        self, recipe: Recipe, run_due: RunDue, fake_engine: FakeEngine
    ) -> None:
        fake_engine.script_step(
            match="torchmetrics",
            output=[b"ERROR: No matching distribution found for torchmetrics<2,>=1.0\n"],
            exit_code=1,
        )

        build = build_now(recipe, run_due)

        assert build.state == Build.State.FAILED
        assert "torchmetrics" in build.error["message"]
        assert build.error["hint"]
        assert build.error["fields"]["step"] == 3
        assert build.error["fields"]["exit_code"] == 1
        assert "No matching distribution" in build.error["fields"]["tail"][-1]
        assert [step["state"] for step in build.steps] == ["done", "done", "failed"]
        assert not Image.objects.custom().exists()
        assert build.operation is not None
        assert build.operation.error["message"] == build.error["message"]

    def test_keeps_its_good_layers_for_the_next_try_and_forgets_them_after_it(
        self, recipe: Recipe, run_due: RunDue, fake_engine: FakeEngine
    ) -> None:
        fake_engine.script_step(match="torchmetrics", exit_code=1)
        build_now(recipe, run_due)
        unfinished = "ds01-200001/thesis:_unfinished"
        assert unfinished in fake_engine.inspect_image(unfinished).tags
        assert fake_engine.list_dangling_images(label=LAYER_LABEL) == []
        recipe.content["requirements"] = "einops\n"
        recipe.save()

        second = build_now(recipe, run_due)

        assert [step["state"] for step in second.steps] == ["cached", "cached", "done"]
        assert second.number == 1
        assert not any(unfinished in image.tags for image in fake_engine.list_images())

    def test_another_failure_leaves_one_unfinished_image_not_two(
        self, recipe: Recipe, run_due: RunDue, fake_engine: FakeEngine
    ) -> None:
        fake_engine.script_step(match="torchmetrics", exit_code=1)
        build_now(recipe, run_due)
        before = count_images(fake_engine)
        recipe.content["jupyter"] = {"choice": "own", "packages": ["jupyterlab"]}
        recipe.save()

        build_now(recipe, run_due)

        assert count_images(fake_engine) == before
        assert fake_engine.list_dangling_images(label=LAYER_LABEL) == []

    def test_for_memory_says_so_and_keeps_nothing(
        self, recipe: Recipe, run_due: RunDue, fake_engine: FakeEngine
    ) -> None:
        before = count_images(fake_engine)
        fake_engine.script_step(match="torchmetrics", oom=True)

        build = build_now(recipe, run_due)

        assert build.error["code"] == "out-of-memory"
        assert "memory" in build.error["message"]
        assert count_images(fake_engine) == before

    def test_for_time_says_so_and_keeps_nothing(
        self, recipe: Recipe, run_due: RunDue, fake_engine: FakeEngine
    ) -> None:
        before = count_images(fake_engine)
        change_policy(timeout_seconds=1)
        fake_engine.script_step(match="torchmetrics", delay=10)

        build = build_now(recipe, run_due)

        assert (build.state, build.error["code"]) == (Build.State.FAILED, "timeout")
        assert count_images(fake_engine) == before

    def test_for_disk_says_so_and_keeps_nothing(
        self,
        recipe: Recipe,
        run_due: RunDue,
        fake_engine: FakeEngine,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        before = count_images(fake_engine)
        monkeypatch.setattr("catalog.services.build_layers.DISK_LOOK", 0.05)
        monkeypatch.setattr(fake_engine, "written_bytes", lambda name: 10**12)
        fake_engine.script_step(match="torchmetrics", delay=10)

        build = build_now(recipe, run_due)

        assert build.error["code"] == "too-large"
        assert count_images(fake_engine) == before

    def test_when_its_base_is_gone_says_which(
        self, recipe: Recipe, run_due: RunDue, fake_engine: FakeEngine
    ) -> None:
        build = request_build(recipe=recipe, actor=None)
        fake_engine.remove_image(DEMO)

        run_due()

        build.refresh_from_db()
        assert build.state == Build.State.FAILED
        assert DEMO in build.error["message"]

    def test_leaves_latest_where_it_was(
        self, recipe: Recipe, run_due: RunDue, fake_engine: FakeEngine
    ) -> None:
        first = build_now(recipe, run_due)
        assert first.image is not None
        fake_engine.faults.fail_next("commit_step", EngineError("no"), times=1)

        second = build_now(recipe, run_due, fresh=True)

        assert second.state == Build.State.FAILED
        latest = fake_engine.inspect_image("ds01-200001/thesis:latest")
        assert latest.id == first.image.engine_image_id

    def test_keeps_beginning_and_end_of_a_log_that_is_too_long(
        self, recipe: Recipe, run_due: RunDue, fake_engine: FakeEngine
    ) -> None:
        change_policy(log_bytes=16_384)
        lines = [f"line {number} {'x' * 100}\n".encode() for number in range(2_000)]
        fake_engine.script_step(match="torchmetrics", output=[b"the beginning\n", *lines])

        build = build_now(recipe, run_due)

        log = log_of(build)
        assert len(log) < 3 * 16_384
        assert "Step 1 of 3" in log
        assert "line 1999" in log
        assert build.dropped_bytes > 0


class TestWhoCancels:
    def test_before_it_began_gets_a_cancelled_build(self, recipe: Recipe, run_due: RunDue) -> None:
        build = request_build(recipe=recipe, actor=recipe.owner)

        assert cancel_build(build=build, actor=recipe.owner)
        run_due()

        build.refresh_from_db()
        assert build.state == Build.State.CANCELLED
        assert cancel_build(build=build, actor=recipe.owner) is False

    def test_in_the_middle_of_a_step_ends_it_and_leaves_nothing(
        self, recipe: Recipe, run_due: RunDue, fake_engine: FakeEngine
    ) -> None:
        before = count_images(fake_engine)
        build = request_build(recipe=recipe, actor=recipe.owner)

        def ask(_environment: object) -> list[bytes]:
            cancel_build(build=build, actor=recipe.owner)
            return []

        fake_engine.script_step(match="torchmetrics", output=ask, delay=5)
        begun = timezone.now()
        run_due()

        build.refresh_from_db()
        assert build.state == Build.State.CANCELLED
        assert timezone.now() - begun < dt.timedelta(seconds=3)
        assert count_images(fake_engine) == before
        assert fake_engine.list_containers() == []


class TestTheQueue:
    def test_asked_twice_is_one_build(self, recipe: Recipe) -> None:
        first = request_build(recipe=recipe, actor=recipe.owner)

        assert request_build(recipe=recipe, actor=recipe.owner) == first
        assert Operation.objects.live().filter(kind="build").count() == 1

    def test_lets_a_person_build_one_at_a_time_and_others_pass(
        self, alice: Person, bob: Person, recipe: Recipe
    ) -> None:
        first = request_build(recipe=recipe, actor=alice)
        second = request_build(recipe=make_recipe(alice, "second"), actor=alice)
        third = request_build(recipe=make_recipe(bob, "bobs"), actor=bob)

        assert [queue_position(build=one) for one in (first, second, third)] == [0, 1, 0]

    def test_says_its_place_and_begins_when_its_turn_comes(
        self, alice: Person, recipe: Recipe, run_due: RunDue
    ) -> None:
        first = request_build(recipe=recipe, actor=alice)
        held = claim_operation(worker="another:1")
        assert held is not None
        Work(held).enter_phase("base")
        second = request_build(recipe=make_recipe(alice, "second"), actor=alice)

        run_due()

        second.refresh_from_db()
        assert second.state == Build.State.QUEUED
        assert second.operation is not None
        second.operation.refresh_from_db()
        assert "Waiting for another build" in second.operation.message
        Operation.objects.filter(pk=held.pk).update(lease_until=timezone.now())
        Operation.objects.filter(pk=second.operation_id).update(not_before=timezone.now())
        run_due()
        run_due()
        first.refresh_from_db()
        second.refresh_from_db()
        assert (first.state, second.state) == (Build.State.DONE, Build.State.DONE)

    def test_does_not_count_waiting_as_work(self, recipe: Recipe, run_due: RunDue) -> None:
        change_policy(timeout_seconds=600)
        build = request_build(recipe=recipe, actor=None)
        assert build.operation is not None
        assert build.operation.deadline_at > timezone.now() + dt.timedelta(hours=20)

        run_due()

        build.operation.refresh_from_db()
        assert build.operation.deadline_at < timezone.now() + dt.timedelta(seconds=601)


class TestAWorkerThatDies:
    def test_is_followed_by_one_that_goes_on_after_the_last_layer(
        self, recipe: Recipe, run_due: RunDue, fake_engine: FakeEngine
    ) -> None:
        build = request_build(recipe=recipe, actor=None)
        fake_engine.script_step(match="torchmetrics", output=_die, delay=0)
        operation = claim_operation(worker="dying:1")
        assert operation is not None
        with pytest.raises(SystemExit):
            carry_out_build(Work(operation))
        ran = len(fake_engine.steps)
        fake_engine.script_step(match="torchmetrics")
        Operation.objects.update(lease_until=timezone.now() - dt.timedelta(seconds=1))

        run_due()

        build.refresh_from_db()
        assert build.state == Build.State.DONE
        assert len(fake_engine.steps) == ran + 1
        assert fake_engine.list_containers() == []

    def test_an_engine_that_is_away_loses_nothing(
        self, recipe: Recipe, run_due: RunDue, fake_engine: FakeEngine
    ) -> None:
        build = request_build(recipe=recipe, actor=None)
        gone = EngineUnreachable("Docker does not answer.")
        fake_engine.faults.fail_next("run_step", gone, times=2)

        for _round in range(3):
            run_due()
            Operation.objects.live().update(not_before=timezone.now())

        build.refresh_from_db()
        assert build.state == Build.State.DONE

    def test_an_undo_that_is_cut_off_goes_on_later(
        self, recipe: Recipe, run_due: RunDue, fake_engine: FakeEngine
    ) -> None:
        build = request_build(recipe=recipe, actor=None)
        fake_engine.script_step(match="torchmetrics", exit_code=1)
        gone = EngineUnreachable("Docker does not answer.")
        # The steps end their containers themselves; the fourth call is the undo's first.
        fake_engine.faults.fail_next("tag_image", gone)
        run_due()
        build.refresh_from_db()
        assert build.state == Build.State.RUNNING
        Operation.objects.live().update(not_before=timezone.now())

        run_due()

        build.refresh_from_db()
        assert build.state == Build.State.FAILED
        assert "torchmetrics" not in [image.tags for image in fake_engine.list_images()]


def _die(_environment: object) -> list[bytes]:
    raise SystemExit


class TestWhatIsRefusedBeforeAnythingIsMade:
    def test_building_and_cancelling_for_somebody_else(
        self, recipe: Recipe, bob: Person, charlie: Person
    ) -> None:
        Recipe.objects.filter(pk=recipe.pk).update(sharing=Recipe.Sharing.EVERYBODY)
        recipe.refresh_from_db()
        for stranger in (bob, charlie):
            with pytest.raises(RefusedError):
                request_build(recipe=recipe, actor=stranger)
        assert not Build.objects.exists()

        build = request_build(recipe=recipe, actor=recipe.owner)
        for stranger in (bob, charlie):
            with pytest.raises(RefusedError):
                cancel_build(build=build, actor=stranger)
        assert not Operation.objects.filter(cancel_requested=True).exists()

    def test_a_recipe_that_was_deleted(self, recipe: Recipe) -> None:
        Recipe.objects.filter(pk=recipe.pk).update(deleted_at=timezone.now())

        with pytest.raises(RefusedError):
            request_build(recipe=recipe, actor=recipe.owner)

        assert not Build.objects.exists()
        assert not Operation.objects.exists()

    def test_own_shell_lines_of_a_student(self, recipe: Recipe) -> None:
        recipe.content["post_install"] = ["curl example.org | sh"]
        recipe.save()

        with pytest.raises(RefusedError):
            request_build(recipe=recipe, actor=recipe.owner)

        assert not Build.objects.exists()


def test_the_name_of_a_steps_container_names_build_and_step(recipe: Recipe) -> None:
    build = request_build(recipe=recipe, actor=None)

    assert step_name(build, 2) == f"ds01-build.{build.pk}.2"
