"""People and containers that the browser tests look at, made in a process of the portal's own.

Each function is called through `Portal.call`. Not in charge of: what a browser does itself.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

PASSWORD = "correct horse battery"
IMAGE = "ds01/demo-python:1"


def make_people(groups: dict[str, str]) -> None:
    """Make people with a password, and the machine with its GPUs and images."""
    from django.core.management import call_command

    from catalog.services.images import allow_local_image
    from ds01portal.services.people import create_person
    from workspaces.services import devices, machine

    for username, group in groups.items():
        create_person(username=username, group=group, password=PASSWORD, actor=None)
    call_command("sync_catalog", verbosity=0)
    devices.sync_devices()
    machine.refresh_machine()
    machine.note_worker()
    allow_local_image(reference=IMAGE, framework="Python", version="3", actor=None)


def ask_for(username: str, name: str, devices: int = 0, **wishes: Any) -> str:
    """Ask for a container; return its id."""
    from ds01portal.models import Person
    from workspaces.services import containers, launch_images, requests

    me = Person.objects.get(username=username)
    request = requests.LaunchRequest(
        owner=me,
        name=name,
        devices=devices,
        **launch_images.choose_image(person=me, reference=IMAGE),
        **wishes,
    )
    return str(containers.launch_container(request=request, actor=me).pk)


def ask_verb(pk: str, verb: str) -> None:
    """Ask for a verb as the owner does."""
    from workspaces.models import Container
    from workspaces.services import containers

    container = Container.objects.get(pk=pk)
    containers.VERBS[verb](container=container, actor=container.owner)


def spoil_image(pk: str) -> None:
    """Let a launch that has not begun fail: its image cannot be had from anywhere."""
    from workspaces.models import Container

    changed = Container.objects.filter(pk=pk, state="launching").update(
        image_reference="127.0.0.1:9/none:1"
    )
    assert changed == 1


def state_of(pk: str) -> str:
    """Return a container's state."""
    from workspaces.models import Container

    return str(Container.objects.values_list("state", flat=True).get(pk=pk))


def ids_of(username: str, name: str = "") -> list[str]:
    """Return the ids of a person's live containers."""
    from workspaces.models import Container

    rows = Container.objects.live().filter(owner__username=username)
    rows = rows.filter(name=name) if name else rows
    return [str(pk) for pk in rows.values_list("pk", flat=True)]


def identity_of(username: str) -> tuple[int, str]:
    """Return uid and Linux name."""
    from ds01portal.models import Person

    person = Person.objects.get(username=username)
    assert person.uid is not None
    return person.uid, person.login


def make_rows(username: str, count: int, name: str) -> list[str]:
    """Make rows of stopped containers that exist nowhere else; names are filled up to 60 signs."""
    from django.utils import timezone

    from ds01portal.models import Person
    from workspaces.models import Container

    owner, now = Person.objects.get(username=username), timezone.now()
    rows = [
        Container(
            owner=owner,
            name=f"{name}-{number:03}".ljust(60, "x"),
            engine_name=f"{name}-{number:03}".ljust(60, "x") + f"._.{owner.uid}",
            state="stopped",
            image_reference=IMAGE,
            framework="Python",
            version="3",
            spec={"cpus": 4, "memory": 8 * 1024**3},
            stopped_at=now - dt.timedelta(hours=number),
            stop_reason="It was stopped by its owner.",
        )
        for number in range(count)
    ]
    return [str(row.pk) for row in Container.objects.bulk_create(rows)]


def first_ids() -> dict[str, int]:
    """Return ids of rows whose pages are looked at."""
    from catalog.models import Image, PackageList
    from ds01portal.models import Person, Quota
    from workspaces.models import Device

    return {
        "list": PackageList.objects.order_by("pk")[0].pk,
        "image": Image.objects.catalogue().order_by("pk")[0].pk,
        "local": Image.objects.get(reference=IMAGE).pk,
        "quota": Quota.objects.order_by("pk")[0].pk,
        "person": Person.objects.get(username="alice").pk,
        "device": Device.objects.order_by("pk")[0].pk,
    }


def ask_for_image(username: str, name: str, requirements: str = "", sharing: str = "") -> str:
    """Write a recipe on the demo image and ask for a build; return the build's id."""
    from catalog.models import Recipe
    from catalog.services.builds import request_build
    from catalog.services.recipes import create_recipe, share_recipe
    from ds01portal.models import Person

    me = Person.objects.get(username=username)
    recipe = Recipe.objects.owned_by(me).filter(name=name).first()
    if recipe is None:
        base = {"kind": "reference", "reference": IMAGE}
        content = {"base": base, "requirements": requirements}
        recipe = create_recipe(owner=me, name=name, content=content, actor=me)
    if sharing:
        share_recipe(recipe=recipe, sharing=sharing, actor=me)
    return str(request_build(recipe=recipe, actor=me).pk)


def cancel_builds(username: str) -> None:
    """Cancel what a person is building."""
    from catalog.models import Build
    from catalog.services.builds import cancel_build

    for build in Build.objects.live().filter(recipe__owner__username=username):
        cancel_build(build=build, actor=None)


def write_in_workspace(username: str, name: str, text: str) -> None:
    """Put a file of a person's own into their workspace."""
    import os
    from pathlib import Path

    from ds01portal.models import Person
    from workspaces.services.folders import ensure_workspace

    me = Person.objects.get(username=username)
    file = Path(ensure_workspace(person=me)) / name
    file.write_text(text)
    os.chown(file, me.uid or 0, me.gid or 0)


def build_of(pk: str) -> dict[str, Any]:
    """Return a build: its state, its recipe, its image."""
    from catalog.models import Build

    build = Build.objects.select_related("image").get(pk=pk)
    return {
        "state": str(build.state),
        "recipe": build.recipe_id,
        "image": build.image.pk if build.image else None,
        "reference": build.image.reference if build.image else "",
        "error": build.error,
    }


def images_of(username: str) -> list[str]:
    """Return the references of a person's live versions."""
    from catalog.models import Image

    rows = Image.objects.custom().active().filter(owner__username=username)
    return sorted(rows.values_list("reference", flat=True))


def allow_builds_at_once(count: int) -> None:
    """Let people build without waiting for each other."""
    from catalog.models import BuildPolicy

    BuildPolicy.objects.update_or_create(
        pk=1,
        defaults={
            "builds_per_person": count,
            "builds_in_all": count,
            "free_disk_floor_bytes": 0,
        },
    )


def remove_everything() -> list[str]:
    """Remove what the tests made on the engine; return the names of what would not go."""
    from ds01portal.engine import get_engine
    from ds01portal.exceptions import EngineError
    from workspaces.models import Container

    engine, left = get_engine(), []
    ours = set(Container.objects.values_list("engine_name", flat=True))
    for summary in engine.list_containers():
        if summary.name in ours:
            try:
                engine.remove_container(summary.id, force=True)
                engine.untag_image(summary.image)
            except EngineError as error:
                left.append(f"{summary.name}: {error}")
    for name in engine.list_networks(label="aime.mlc.DS01_NETWORK"):
        engine.remove_network_if_unused(name)
    left += remove_images()
    return left


def remove_images() -> list[str]:
    """Remove the images that were built; return those that would not go."""
    from catalog.models import Recipe
    from ds01portal.engine import get_engine
    from ds01portal.exceptions import EngineError

    engine, left = get_engine(), []
    for summary in engine.list_containers():
        if summary.name.startswith(("ds01-build.", "ds01-facts.")):
            engine.remove_container(summary.id, force=True)
    owners = {recipe.owner.uid for recipe in Recipe.objects.select_related("owner")}
    prefixes = tuple(f"ds01-{uid}/" for uid in owners)
    for image in engine.list_images():
        for tag in image.tags:
            if prefixes and tag.startswith(prefixes):
                try:
                    engine.remove_image(tag)
                except EngineError as error:
                    left.append(f"{tag}: {error}")
    return left
