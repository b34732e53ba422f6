"""What part g does in a process that stands on a site's database: recipes, builds, clean-up.

Called through `Site.call`; Django is set up there. Not in charge of: judging times.
"""

from __future__ import annotations

import time
from typing import Any

from bench.site import UIDS

LINES = 200  # packages of the recipe whose Dockerfile is timed
PREFIXES = tuple(f"ds01-{uid}/" for uid in UIDS)


def prepare_builds(base: str) -> None:
    """Let the base be known, and let no limit stand in the way of builds."""
    from catalog.models import BuildPolicy
    from catalog.services.images import allow_local_image
    from workspaces.services import devices, machine

    devices.sync_devices()
    machine.refresh_machine()
    allow_local_image(reference=base, actor=None)
    BuildPolicy.objects.update(
        free_disk_floor_bytes=0, post_install=BuildPolicy.PostInstall.EVERYBODY
    )


def lift_limits(username: str) -> None:
    """Let a person have as many images as the benchmark makes."""
    from ds01portal.limits import UNLIMITED
    from ds01portal.models import Person
    from ds01portal.services.quotas import set_limits

    person = Person.objects.get(username=username)
    set_limits(subject=person, values={"images": UNLIMITED, "disk": UNLIMITED}, actor=None)


def write_recipe(username: str, name: str, content: dict[str, Any]) -> str:
    """Make a recipe; return its Dockerfile."""
    from catalog.services.recipe_checks import check_recipe
    from catalog.services.recipes import create_recipe
    from ds01portal.models import Person

    owner = Person.objects.get(username=username)
    create_recipe(owner=owner, name=name, content=content, actor=owner)
    return check_recipe(content=content, name=name, owner=owner).dockerfile


def ask_for_build(username: str, name: str, *, fresh: bool = False) -> str:
    """Ask for a build; return its key."""
    from catalog.models import Recipe
    from catalog.services.builds import request_build

    recipe = Recipe.objects.get(owner__username=username, name=name, deleted_at=None)
    return str(request_build(recipe=recipe, actor=recipe.owner, fresh=fresh).pk)


def build_through_portal(username: str, name: str, *, fresh: bool) -> float:
    """Ask for a build and wait for its version; return the seconds, raise when there is none."""
    from django.db import connection

    from catalog.models import Build

    look = f"SELECT state FROM {Build._meta.db_table} WHERE id = %s"
    begun = time.monotonic()
    build = ask_for_build(username, name, fresh=fresh)
    key = Build._meta.pk.get_db_prep_value(build, connection)
    state = str(Build.State.QUEUED)
    with connection.cursor() as cursor:
        while state in Build.LIVE_STATES:
            time.sleep(0.002)
            state = cursor.execute(look, [key]).fetchone()[0]
    seconds = time.monotonic() - begun
    if state != Build.State.DONE:
        row = Build.objects.get(pk=build)
        log = "\n".join(one.text for one in row.output.all())
        raise RuntimeError(f"the build is {state}: {row.error} {log[-1500:]}")
    return seconds


def await_step(build: str) -> None:
    """Return when the last step of a build runs."""
    from catalog.models import Build

    end = time.monotonic() + 60
    while time.monotonic() < end:
        row = Build.objects.get(pk=build)
        if not row.is_live:
            raise RuntimeError(f"the build is {row.state}: {row.error}")
        if row.steps[-1]["state"] == "running":
            return
        time.sleep(0.01)
    raise TimeoutError("the build does not begin")


def time_dockerfile(rounds: int) -> tuple[list[float], list[float]]:
    """Return ms from a recipe of 200 packages to its Dockerfile: never seen, and one line edited.

    Lines that were read are remembered, so for the first all that remembers is made to forget.
    """
    from catalog.recipes import requirement_line, requirements
    from catalog.recipes.content import RecipeContent
    from catalog.recipes.dockerfile import write_dockerfile
    from catalog.recipes.plan import BaseFacts, PackageLists, PlanPolicy, make_plan

    lines = [
        (
            f"package-{n}=={n}.1.2",
            f"package-{n}[extra,other]>={n}.0,<{n + 2},!={n}.1.*  # wanted",
            f'package-{n}~={n}.4; python_version >= "3.9" and sys_platform == "linux"',
            f"Package_{n}",
        )[n % 4]
        for n in range(LINES)
    ]
    data = {
        "base": {"kind": "catalog", "framework": "pytorch"},
        "requirements": "\n".join(lines),
        "environment": {"NAME": "value with $ and \\", "OTHER": "x"},
    }

    memories = [
        thing.cache_clear
        for module in (requirement_line, requirements)
        for thing in vars(module).values()
        if hasattr(thing, "cache_clear")
    ]

    def once() -> float:
        begun = time.perf_counter()
        plan = make_plan(
            RecipeContent.from_dict(data),
            name="thesis",
            owner_uid=1001,
            base=BaseFacts(reference="lab/pytorch:2", packages={"torch": "2.7", "package-3": "1"}),
            lists=PackageLists(),
            policy=PlanPolicy(),
        )
        assert write_dockerfile(plan).lower().count("package") >= LINES - 1
        return (time.perf_counter() - begun) * 1000

    once()
    cold = []
    for _ in range(rounds):
        for forget in memories:
            forget()
        cold.append(once())
    edited = []
    for number in range(rounds):
        data["requirements"] = "\n".join([*lines[:-1], f"edited-package-{number}>=1.{number}"])
        edited.append(once())
    return cold, edited


def clean_builds() -> None:
    """Remove the images of the benchmark's people, and the network of builds."""
    from ds01portal.engine import get_engine
    from ds01portal.exceptions import EngineConflict

    engine = get_engine()
    for image in engine.list_images():
        for tag in image.tags:
            if tag.startswith(PREFIXES):
                engine.remove_image(tag)
    for image in engine.list_dangling_images(label="aime.mlc.DS01_LAYER"):
        try:
            engine.remove_image(image.id)
        except EngineConflict as conflict:
            raise RuntimeError(f"{image.id} stays: {conflict.cause}") from conflict
    for name in engine.list_networks(label="aime.mlc.DS01_BUILDS"):
        engine.remove_network_if_unused(name)
