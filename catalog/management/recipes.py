"""What the commands on custom images share: which build, waiting for its end, the answer.

Not in charge of: deciding anything; what a command line says of a recipe (`contents`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core.management.base import CommandParser

from catalog.models import Build, Image, Recipe
from catalog.services.builds import queue_position
from catalog.services.recipes import find_recipe
from catalog.uses import find_users
from ds01portal.exceptions import EngineTimeout, NotFound, RefusedError
from ds01portal.limits import format_bytes
from ds01portal.management.base import (
    PortalCommand,
    find_user,
    read_timeout,
    stored_error,
    wait_for_operation,
)
from ds01portal.models import Operation, Person

ENDINGS = {Build.State.FAILED: "failed", Build.State.CANCELLED: "was cancelled"}


def add_target(parser: CommandParser, name_help: str = "name of the image") -> None:
    """Add whose image, and which."""
    parser.add_argument("user", help="whose: username, login on the host, or uid")
    parser.add_argument("name", help=name_help)


def add_wait_options(parser: CommandParser) -> None:
    """Add whether and how long to wait for a build."""
    parser.add_argument("--wait", action="store_true", help="wait until it is built or failed")
    parser.add_argument(
        "--timeout", default="", help="longest wait, such as 90 or 30m; then exit 2"
    )


def read_number(name: str) -> int | str | None:
    """Return what stands behind the colon of NAME[:N]: a number, `latest`, or None."""
    version = name.rpartition("/")[2].partition(":")[2]
    return int(version) if version.isdecimal() else version or None


def find_build(*, user: str, name: str) -> Build:
    """Return a build that the person may see: that of a version, else the newest.

    Raise NotFound; logs of others are not shared with their images.
    """
    person = find_user(user)
    recipe = find_recipe(person=person, name=name)
    rows = Build.objects.visible_to(person).filter(recipe=recipe)
    number = read_number(name)
    if isinstance(number, int):
        rows = rows.filter(number=number)
    build = rows.select_related("recipe__owner", "image", "operation").first()
    if build is None:
        raise NotFound(
            f"There is no build of “{name[:100]}”.",
            hint="build_image makes one."
            if recipe.owner == person
            else "Builds are shown to the image's owner.",
            field="name",
            value=name[:100],
        )
    return build


def describe_build(build: Build) -> dict[str, Any]:
    """Return the JSON form of a build, with its place in the queue."""
    return {**build.as_dict(), "position": queue_position(build=build)}


def describe_version(image: Image, containers: Iterable[str]) -> dict[str, Any]:
    """Return the JSON form of a version."""
    return {
        "id": image.pk,
        "version": image.number,
        "image": image.reference,
        "base": image.base_reference,
        "size_bytes": image.size_bytes,
        "own_size_bytes": image.own_bytes,
        "on_this_machine": image.is_on_engine,
        "containers": list(containers),
        "created_at": image.created_at,
        "last_used_at": image.last_used_at,
    }


def describe_recipe(recipe: Recipe) -> dict[str, Any]:
    """Return the JSON form of a recipe with its versions, newest first."""
    versions = list(recipe.images.active().order_by("-number"))
    users = find_users([image.pk for image in versions])
    return {
        **recipe.as_dict(),
        "forked_from": recipe.forked_from.reference if recipe.forked_from else None,
        "versions": [describe_version(image, users.get(image.pk, ())) for image in versions],
    }


def unbuilt_recipes(person: Person) -> list[Recipe]:
    """Return the recipes that a person may see and that have no version, their own first."""
    built = Image.objects.custom().active().values("recipe")
    rows = Recipe.objects.visible_to(person).exclude(pk__in=built).select_related("owner")
    return sorted(rows, key=lambda row: (row.owner_id != person.pk, row.owner.username, row.name))


def size_words(size: int | None) -> str:
    """Return a size for people."""
    return "-" if size is None else format_bytes(size)


def build_line(build: Build) -> str:
    """Return one line about a build for people."""
    text = f"{build.recipe.owner.username}/{build.recipe.name}:{build.number}: {build.state}"
    done = sum(1 for step in build.steps if step.get("state") in ("done", "cached"))
    if build.state == Build.State.QUEUED:
        position = queue_position(build=build)
        return f"{text}, number {position} in the queue" if position else text
    if build.state == Build.State.RUNNING:
        return f"{text}, {done} of {len(build.steps)} steps done"
    if build.image is not None:
        return f"{text}, {build.image.reference}"
    message = build.error.get("message", "")
    return f"{text}. {message}" if message else text


def finish_build(command: PortalCommand, build: Build, options: dict[str, Any]) -> None:
    """Wait if that was asked for, and print what came of the build."""
    seconds = read_timeout(options)
    late: EngineTimeout | None = None
    if options["wait"] and build.operation is not None:
        try:
            wait_for_operation(build.operation, seconds=seconds)
        except EngineTimeout as timeout:
            late = timeout
            late.hint = "It goes on. Look with show_build, and whether a worker is running."
    build = Build.objects.select_related("recipe__owner", "image", "operation").get(pk=build.pk)
    error = late or failure_of(build)
    data = describe_build(build)
    if error is not None:
        if not options["json"]:
            for line in error.fields.get("tail", ()):
                command.say(line)
        raise command.refuse(error, as_json=options["json"], data={"build": data})
    if options["json"]:
        command.write_json({"build": data, "error": None})
        return
    command.say(build_line(build))
    if build.is_live:
        command.say("  The worker builds it. --wait waits for the end, show_build shows the log.")


def failure_of(build: Build) -> RefusedError | None:
    """Return the error that a build ended with, in the words it was stored in."""
    ending = ENDINGS.get(Build.State(build.state))
    if ending is None:
        return None
    operation: Operation | None = build.operation
    stored = build.error or (operation.error if operation else {}) or {}
    return stored_error(stored, message=f"The build of {build} {ending}.", code=str(build.state))
