"""Containers hold the images they stand on: no deletion, pruning or sweep takes one away."""

from __future__ import annotations

import datetime as dt
import json
import time

import pytest
from django.utils import timezone

from catalog.models import BuildPolicy, HostFacts, Image
from catalog.services import image_quota, image_sweep
from catalog.services.image_care import delete_image, delete_version, prune_versions, use_image
from catalog.services.image_prune import prune_images
from catalog.services.image_sweep import sweep_images
from catalog.tests.versions import make_recipe, make_version
from catalog.uses import find_engine_users, find_users
from ds01portal.exceptions import ImageInUse, ImageRefused
from ds01portal.models import Event
from workspaces.models import Container
from workspaces.services import containers
from workspaces.services.trouble import find_trouble
from workspaces.tests.processes import (
    ask_python,
    fresh_database,
    make_environment,
    run_python,
    start_python,
)

pytestmark = pytest.mark.django_db
DAY = dt.timedelta(days=1)
PLAYERS = "workspaces.tests.image_players"


def wishes(image: Image) -> dict[str, object]:
    return {
        "image": image,
        "reference": image.reference,
        "framework": image.framework,
        "version": image.version,
    }


def row(used: Image, owner, name: str = "train", **values) -> Container:
    return Container.objects.create(
        **{
            "owner": owner,
            "name": name,
            "engine_name": f"{name}._.{owner.uid}",
            "image": used,
            "image_reference": used.reference,
            "state": "running",
            **values,
        }
    )


def test_containers_are_named_with_their_owners(portal, alice, bob):
    image = make_version(portal, make_recipe(alice), 1)
    row(image, alice)
    row(image, bob, "eval", state="stopped")
    row(image, bob, "gone", state="removed")
    row(image, bob, "broken", state="failed")
    other = make_version(portal, make_recipe(alice, "other"), 1)

    assert find_users([image.pk, other.pk]) == {image.pk: ["alice/train", "bob/eval"]}


def test_a_container_that_names_no_row_is_found_by_its_image_on_the_engine(portal, alice):
    image = make_version(portal, make_recipe(alice), 1)
    adopted = row(image, alice, image=None, image_engine_id=image.engine_image_id, origin="docker")

    assert find_users([image.pk]) == {image.pk: ["alice/train"]}
    assert find_engine_users([image.engine_image_id, ""]) == {
        image.engine_image_id: ["alice/train"]
    }
    with pytest.raises(ImageInUse):
        delete_image(recipe=image.recipe, actor=alice)
    Container.objects.filter(pk=adopted.pk).update(owner=None)
    assert find_users([image.pk]) == {image.pk: ["train._.200001"]}


def test_a_launched_container_holds_its_image_until_it_is_removed(
    portal, alice, launch, run_due, monkeypatch
):
    monkeypatch.setattr(image_sweep, "SUSPECT_FOR", 0.0)
    BuildPolicy.objects.update_or_create(pk=1, defaults={"versions_kept": 1, "unused_days": 30})
    recipe = make_recipe(alice)
    image = make_version(portal, recipe, 1)
    make_version(portal, recipe, 2)
    container = launch(alice, "train", **wishes(image))
    assert container.state == "running"

    assert prune_versions(recipe=recipe) == []
    for action in (
        lambda: delete_image(recipe=recipe, actor=alice),
        lambda: delete_version(image=image, actor=alice),
    ):
        with pytest.raises(ImageInUse, match="alice/train"):
            action()
    later = timezone.now() + 400 * DAY
    assert image.reference in prune_images(now=later).kept
    sweep_images(now=later)
    assert portal.inspect_image(image.reference).id == image.engine_image_id
    assert portal.inspect_container(container.engine_name).image_id == image.engine_image_id

    containers.remove_container(container=container, actor=alice)
    run_due()
    assert [old.number for old in prune_versions(recipe=recipe)] == [1]
    sweep_images(now=later)
    assert image.engine_image_id not in portal.images


@pytest.mark.race
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_launches_and_deletions_at_the_same_moment_never_both_succeed(kind, tmp_path):
    rounds = 40
    database = make_environment(fresh_database(kind, tmp_path), tmp_path, DS01_GPUS="none")
    run_python("manage", "migrate", "-v", "0", environment=database)
    ask_python(PLAYERS, "prepare", str(rounds), environment=database)
    start = str(time.time() + 4)

    both = [start_python(PLAYERS, verb, start, environment=database) for verb in ("use", "delete")]
    told = []
    for process in both:
        out, err = process.communicate(timeout=200)
        assert process.returncode == 0, err[-3000:]
        told.append(json.loads(out.strip().splitlines()[-1]))

    used, deleted = told
    left = ask_python(PLAYERS, "left", environment=database)
    assert left == {"used and deleted": 0, "neither": 0}
    assert used["used"] + deleted["deleted"] == rounds
    assert used["used"] == deleted["refused"]


def test_a_deletion_that_came_first_is_seen_by_the_launch(portal, alice):
    image = make_version(portal, make_recipe(alice), 1)
    delete_image(recipe=image.recipe, actor=alice)

    with pytest.raises(ImageRefused):
        use_image(image=image)


def test_other_images_are_nobodys_to_delete_and_pass(portal, demo_image):
    use_image(image=demo_image)

    demo_image.refresh_from_db()
    assert demo_image.last_used_at is None


# What admins read --------------------------------------------------------------------------------


def test_admins_read_of_a_full_disk_and_of_known_escapes(portal, settings, monkeypatch):
    settings.DOCKER_HOST = "unix:///run/engine.sock"
    HostFacts.objects.update_or_create(
        pk=1,
        defaults={
            "engine_root": "/engine",
            "runc_version": "1.1.5+ds1-1+deb12u1",
            "toolkit_version": "1.17.4",
            "updated_at": timezone.now(),
        },
    )
    BuildPolicy.objects.update_or_create(
        pk=1, defaults={"disk_alarm_percent": 85, "free_disk_floor_bytes": 10}
    )
    monkeypatch.setattr(image_quota, "_engine_disk", lambda: ("/engine", 1000, 100))

    texts = {one.text: one.level for one in find_trouble()}

    assert texts["/engine is 90 % full; 100 B are free. Run prune_images."] == "warning"
    (packaged, *_others) = [text for text in texts if "CVE-2024-21626" in text]
    assert "runc 1.1.5+ds1-1+deb12u1" in packaged
    assert "distribution may have mended it" in packaged
    (toolkit,) = [text for text in texts if "toolkit 1.17.4" in text]
    assert toolkit.endswith("Upgrade to 1.17.8.")

    monkeypatch.setattr(image_quota, "_engine_disk", lambda: ("/engine", 1000, 5))
    worst = find_trouble()[0]
    assert worst.level == "error"
    assert worst.text.startswith("No image is built: 5 B are free")


# On a real engine --------------------------------------------------------------------------------


@pytest.mark.engine
def test_a_real_container_keeps_its_image_through_everything(
    real_portal, alice, launch, run_due, monkeypatch
):
    monkeypatch.setattr(image_sweep, "SUSPECT_FOR", 0.0)
    recipe = make_recipe(alice, "lived-in")
    image = make_version(real_portal, recipe, 1)
    container = launch(alice, "train", **wishes(image))
    assert container.state == "running", container.error

    with pytest.raises(ImageInUse):
        delete_image(recipe=recipe, actor=alice)
    # Retired all the same, as by a hand in the database: the sweep looks for itself.
    Image.objects.filter(pk=image.pk).update(retired_at=timezone.now(), retired_cause="deleted")
    sweep_images()
    Container.objects.filter(pk=container.pk).update(image=None, image_engine_id="")
    sweep_images()
    assert Event.objects.filter(verb="kept on the engine").count() == 1
    assert real_portal.inspect_image(image.reference).id == image.engine_image_id
    assert real_portal.run_command(container.engine_name, ("true",))[0] == 0

    containers.remove_container(container=container, actor=alice)
    run_due()
    sweep_images()
    assert not [tag for one in real_portal.list_images() for tag in one.tags if "lived-in" in tag]
    assert real_portal.inspect_image("ds01/demo-python:1")
