"""Images that containers stand on, on a real engine: no deletion, rule or sweep takes them away."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
from collections.abc import Callable, Iterator

import pytest
from django.utils import timezone

from catalog.models import Build, BuildPolicy, Image, Recipe
from catalog.services.builds import request_build
from catalog.services.image_care import delete_image, delete_version, prune_versions
from catalog.services.image_prune import prune_images
from catalog.services.image_sweep import sweep_images
from ds01portal.engine.base import ContainerEngine, Observed
from ds01portal.exceptions import EngineConflict, ImageInUse, MissingOnEngine
from ds01portal.models import Person
from workspaces.models import Container
from workspaces.services import containers, launch_images
from workspaces.tests.processes import ROOT

pytestmark = [pytest.mark.engine, pytest.mark.timeout(120)]
BASE = "ds01/demo-python:1"
UID = 200001
Make = Callable[..., Image]


@pytest.fixture
def engine(real_portal: ContainerEngine, demo_image: Image) -> Iterator[ContainerEngine]:
    """The private engine; the base and what a test builds are as before afterwards."""
    base = real_portal.inspect_image(BASE)
    Image.objects.filter(pk=demo_image.pk).update(engine_image_id=base.id)
    BuildPolicy.objects.update(free_disk_floor_bytes=0, post_install="everybody")
    yield real_portal
    for summary in real_portal.list_containers():
        if f"._.{UID}" in summary.name or summary.image.startswith(f"ds01-{UID}/"):
            real_portal.remove_container(summary.id, force=True)
    for image in real_portal.list_images():
        for tag in image.tags:
            if tag.startswith(f"ds01-{UID}/") or tag.endswith(f"._.{UID}"):
                real_portal.remove_image(tag)
    assert real_portal.inspect_image(BASE) == base


@pytest.fixture
def make(engine: ContainerEngine, alice: Person, run_due: Callable[[], int]) -> Make:
    """Build the next version of a recipe of Alice's; its file tells which it is."""

    def make_one(name: str = "thesis", base: str = "") -> Image:
        stands_on = (
            {"kind": "custom", "image": base} if base else {"kind": "reference", "reference": BASE}
        )
        recipe, _ = Recipe.objects.get_or_create(owner=alice, name=name, deleted_at=None)
        line = f"echo {recipe.name} {recipe.last_number + 1} >> /versions"
        recipe.content = {"base": stands_on, "post_install": [line]}
        recipe.save(update_fields=["content"])
        build = request_build(recipe=recipe, actor=alice)
        run_due()
        build.refresh_from_db()
        assert build.state == Build.State.DONE, build.error
        assert build.image is not None
        return build.image

    return make_one


@pytest.fixture
def stand_on(launch: Callable[..., Container], alice: Person) -> Callable[[Image], Container]:
    """Launch a container of an image."""

    def launch_one(image: Image) -> Container:
        container = launch(alice, **launch_images.image_fields(image))
        assert container.state == Container.State.RUNNING, container.error
        return container

    return launch_one


def versions(engine: ContainerEngine, name: str = "thesis") -> list[str]:
    """Return the tags of a recipe that are on the engine."""
    beginning = f"ds01-{UID}/{name}:"
    return sorted(
        tag.removeprefix(beginning)
        for image in engine.list_images()
        for tag in image.tags
        if tag.startswith(beginning) and "._." not in tag  # a container's own
    )


def read_versions(reference: str) -> list[str]:
    """Return what the builds of an image have written into it, from a new container."""
    done = subprocess.run(
        ["docker", "run", "--rm", "--network", "none", reference, "cat", "/versions"],
        env={**os.environ, "DOCKER_HOST": os.environ["DS01_TEST_DOCKER_HOST"]},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def restart(container: Container, engine: ContainerEngine, run_due: Callable[[], int]) -> None:
    """Stop and start it, which needs all of its image."""
    containers.stop_container(container=container, actor=container.owner)
    run_due()
    containers.start_container(container=container, actor=container.owner)
    run_due()
    assert engine.inspect_container(container.engine_name).state is Observed.RUNNING


def test_what_a_container_stands_on_is_not_deleted(engine, make, stand_on, alice, run_due):
    image = make()
    container = stand_on(image)

    with pytest.raises(ImageInUse) as refused:
        delete_image(recipe=image.recipe, actor=alice)
    with pytest.raises(ImageInUse):
        delete_version(image=image, actor=alice)
    sweep_images(engine=engine, now=timezone.now() + dt.timedelta(days=400))

    assert refused.value.fields["containers"] == [f"alice/{container.name}"]
    assert versions(engine) == ["1", "latest"]
    restart(container, engine, run_due)


def test_old_versions_go_and_those_in_use_stay(engine, make, stand_on, alice, run_due):
    BuildPolicy.objects.update(versions_kept=1)
    container = stand_on(make())
    make()
    third = make()  # its end has pruned the second

    sweep_images(engine=engine)

    assert versions(engine) == ["1", "3", "latest"]
    assert read_versions(third.reference) == ["thesis 3"]
    assert prune_versions(recipe=third.recipe) == []
    restart(container, engine, run_due)

    containers.remove_container(container=container, actor=alice)
    run_due()
    assert [image.number for image in prune_versions(recipe=third.recipe)] == [1]
    sweep_images(engine=engine)
    assert versions(engine) == ["3", "latest"]


def test_what_nobody_uses_goes_after_a_notice_and_what_runs_stays(engine, make, stand_on, run_due):
    used, unused = make("used"), make("unused")
    container = stand_on(used)
    later = timezone.now() + dt.timedelta(days=91)

    first = prune_images(now=later, engine=engine)
    second = prune_images(now=later + dt.timedelta(days=15), engine=engine)

    assert (first.noticed, first.unused) == ([unused.reference], [])
    assert second.unused == [unused.reference]
    assert versions(engine, "unused") == []
    assert versions(engine, "used") == ["1", "latest"]
    restart(container, engine, run_due)


def test_a_container_that_no_row_knows_keeps_its_image_too(engine, make, alice):
    image = make()
    docker = ["docker", "-H", os.environ["DS01_TEST_DOCKER_HOST"]]
    by_hand = subprocess.run(
        [*docker, "create", image.reference, "true"], capture_output=True, text=True, check=True
    ).stdout.strip()
    by_id = subprocess.run(
        [*docker, "create", image.engine_image_id, "true"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip

    delete_image(recipe=image.recipe, actor=alice)
    far = timezone.now() + dt.timedelta(days=400)
    sweep_images(engine=engine, now=far)
    assert image.engine_image_id in {one.id for one in engine.list_images()}

    engine.remove_container(by_hand, force=True)
    sweep_images(engine=engine, now=far)
    assert image.engine_image_id in {one.id for one in engine.list_images()}
    with pytest.raises(EngineConflict):
        engine.remove_image(image.engine_image_id)

    engine.remove_container(by_id, force=True)
    sweep_images(engine=engine, now=far)
    assert versions(engine) == []
    with pytest.raises(MissingOnEngine):
        engine.inspect_image(image.engine_image_id)


def test_an_image_that_another_stands_on_goes_without_taking_it_along(engine, make, alice):
    lower = make("lower")
    upper = make("upper", base="alice/lower:1")

    delete_image(recipe=lower.recipe, actor=alice)
    sweep_images(engine=engine, now=timezone.now() + dt.timedelta(days=400))

    assert versions(engine, "lower") == []
    assert read_versions(upper.reference) == ["lower 1", "upper 1"]
    assert read_versions(f"ds01-{UID}/upper:latest") == ["lower 1", "upper 1"]


def test_the_last_one_goes_with_its_layers_and_the_base_stays(engine, make, alice):
    base = engine.inspect_image(BASE)
    known = {one.id for one in engine.find_images(label="aime.mlc.DS01_LAYER")}
    image = make()
    made = {one.id for one in engine.find_images(label="aime.mlc.DS01_LAYER")} - known
    assert image.engine_image_id in made

    delete_image(recipe=image.recipe, actor=alice)
    sweep_images(engine=engine)

    assert {one.id for one in engine.find_images(label="aime.mlc.DS01_LAYER")} == known
    assert engine.inspect_image(BASE) == base
