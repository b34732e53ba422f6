"""What the processes of the build tests do to a portal's database. Run as `python -m … VERB JSON`.

Not a test. Everything goes through the services, as pages and commands do.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.contrib.auth.models import Group  # noqa: E402
from django.utils import timezone  # noqa: E402

from catalog.models import Build, BuildPolicy, Image, ImagePackages, Recipe  # noqa: E402
from catalog.services import builds  # noqa: E402
from catalog.services.image_sweep import sweep_images  # noqa: E402
from catalog.services.package_facts import read_wanted_packages  # noqa: E402
from catalog.services.recipes import create_recipe  # noqa: E402
from ds01portal.engine import get_engine  # noqa: E402
from ds01portal.engine.fake import FakeEngine  # noqa: E402
from ds01portal.exceptions import QuotaExceeded  # noqa: E402
from ds01portal.limits import UNLIMITED  # noqa: E402
from ds01portal.models import Event, Operation, Person  # noqa: E402
from ds01portal.services import operations  # noqa: E402
from ds01portal.services.quotas import set_limits  # noqa: E402
from workspaces.services import carrying  # noqa: E402

BASE = "ds01/demo-python:1"
CONTENT = {"base": {"kind": "reference", "reference": BASE}}


def prepare(people: int, engine_id: str = "") -> dict[str, Any]:
    """Make people without limits on images, and the base known."""
    Image.objects.create(
        kind="local",
        framework="Python",
        version="3",
        reference=BASE,
        engine_image_id=engine_id or get_engine().inspect_image(BASE).id,
    )
    group = Group.objects.get(name="researcher")
    for number in range(people):
        uid = 310_000 + number
        person = Person.objects.create(
            username=f"builder{number}", uid=uid, gid=uid, linux_name=f"builder{number}"
        )
        person.groups.add(group)
        set_limits(subject=person, values={"images": UNLIMITED, "disk": UNLIMITED}, actor=None)
    return set_policy(free_disk_floor_bytes=0, post_install="everybody")


def set_policy(**values: Any) -> dict[str, Any]:
    """Change the rules of builds."""
    BuildPolicy.objects.update(**values)
    return {}


def ask(name: str, person: int = 0, fresh: bool = False, **content: Any) -> dict[str, Any]:
    """Write a recipe of that name and ask for a build; return its key."""
    owner = Person.objects.get(username=f"builder{person}")
    recipe, _ = Recipe.objects.get_or_create(owner=owner, name=name)
    recipe.content = {**CONTENT, **content}
    recipe.save(update_fields=["content"])
    return {"build": str(builds.request_build(recipe=recipe, actor=owner, fresh=fresh).pk)}


def cancel(build: str) -> dict[str, Any]:
    """Cancel a build."""
    row = Build.objects.get(pk=build)
    return {"asked": builds.cancel_build(build=row, actor=row.recipe.owner)}


def look(build: str) -> dict[str, Any]:
    """Return a build as its page would show it."""
    row = Build.objects.select_related("operation", "image").get(pk=build)
    assert row.operation is not None
    return {
        "state": row.state,
        "error": row.error,
        "steps": [step["state"] for step in row.steps],
        "layers": [step.get("image") for step in row.steps],
        "image": row.image.reference if row.image else None,
        "engine_id": row.image.engine_image_id if row.image else None,
        "operation": row.operation.state,
        "phase": row.operation.phase,
        "place": builds.queue_position(build=row),
        "log": "\n".join(one.text for one in row.output.order_by("pk")),
    }


def die(phase: str) -> dict[str, Any]:
    """Carry out what is due and kill this very process with -9 when the phase is entered.

    "committed" and "tagged" are the moments right after the engine did so, which no row knows of;
    "looked" is that of a look into an image whose packages are not known.
    """
    enter, undo = operations.Work.enter_phase, operations.Work.begin_undo

    def die_entering(self: operations.Work, entered: str, message: str = "") -> None:
        enter(self, entered, message)
        if entered == phase:
            os.kill(os.getpid(), signal.SIGKILL)

    def die_undoing(self: operations.Work, error: dict[str, Any]) -> None:
        undo(self, error)
        if phase == "undo":
            os.kill(os.getpid(), signal.SIGKILL)

    operations.Work.enter_phase = die_entering  # type: ignore[method-assign]
    operations.Work.begin_undo = die_undoing  # type: ignore[method-assign]
    if phase == "looked":
        ImagePackages.objects.all().delete()
        _die_after("run_step")
        read_wanted_packages()
    if phase in ("committed", "tagged"):
        _die_after({"committed": "commit_step", "tagged": "tag_image"}[phase])
    carrying.carry_out_due()
    return {"alive": True}


def _die_after(method: str) -> None:
    engine = get_engine()
    act = getattr(engine, method)

    def act_and_die(*arguments: Any, **more: Any) -> None:
        act(*arguments, **more)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(engine, method, act_and_die)


# Races: the engine is in memory, one for each process


def add_recipe(name: str) -> dict[str, Any]:
    """Write a recipe of builder0."""
    owner = Person.objects.get(username="builder0")
    return {"recipe": Recipe.objects.create(owner=owner, name=name, content=CONTENT).pk}


def ask_often(name: str, times: int) -> dict[str, Any]:
    """Ask again and again for a build of one recipe."""
    recipe = Recipe.objects.get(name=name)
    made = {str(builds.request_build(recipe=recipe, actor=recipe.owner).pk) for _ in range(times)}
    return {"builds": sorted(made)}


def ask_many(person: int, count: int) -> dict[str, Any]:
    """Ask for builds of several recipes of one person."""
    for number in range(count):
        ask(f"many-{number}", person=person, requirements="alpha")
    return {}


def limit_images(images: int) -> dict[str, Any]:
    """Limit how many recipes builder3 may have."""
    owner = Person.objects.get(username="builder3")
    set_limits(subject=owner, values={"images": images}, actor=None)
    return {}


def create_many(number: int, count: int) -> dict[str, Any]:
    """Create recipes of builder3 until the quota refuses them."""
    owner = Person.objects.get(username="builder3")
    answers: Counter[str] = Counter({"created": 0, "refused": 0})
    for index in range(count):
        try:
            create_recipe(owner=owner, name=f"r{number}-{index}", content=CONTENT, actor=owner)
            answers["created"] += 1
        except QuotaExceeded:
            answers["refused"] += 1
    return dict(answers)


def work(seconds: float = 60) -> dict[str, Any]:
    """Carry out builds until there is none left; count who builds while a step runs."""
    policy = BuildPolicy.current()
    most, broken = 0, []

    def look_around(_environment: Mapping[str, str]) -> list[bytes]:
        nonlocal most
        rows = Build.objects.filter(state=Build.State.RUNNING)
        owners = Counter(rows.values_list("recipe__owner__username", flat=True))
        most = max(most, owners.total())
        if owners.total() > policy.builds_in_all or max(owners.values()) > policy.builds_per_person:
            broken.append(dict(owners))
        return [b"one\n", b"two\n"]

    engine = get_engine()
    assert isinstance(engine, FakeEngine)
    engine.script_step(output=look_around, delay=0.1)
    end = time.monotonic() + seconds
    while Operation.objects.live().exists() and time.monotonic() < end:
        carrying.carry_out_due()
        time.sleep(0.05)
    return {"most": most, "broken": broken}


def count(name: str) -> dict[str, Any]:
    """Return how many rows there are of all that a request for a build of a recipe writes."""
    recipe = Recipe.objects.get(name=name)
    about = {"subject_kind": "recipe", "subject_id": str(recipe.pk)}
    return {
        "builds": recipe.builds.count(),
        "operations": Operation.objects.filter(**about).count(),
        "events": Event.objects.filter(**about, verb="build").count(),
    }


def states(beginning: str) -> dict[str, Any]:
    """Return how many builds of such recipes are in which state, and how many versions are."""
    rows = Build.objects.filter(recipe__name__startswith=beginning)
    images = Image.objects.custom().filter(recipe__name__startswith=beginning)
    return {**Counter(rows.values_list("state", flat=True)), "images": images.count()}


def sweep(hours: float) -> dict[str, Any]:
    """Sweep the engine as if it were so much later."""
    return {"removed": sweep_images(now=timezone.now() + dt.timedelta(hours=hours))}


def live() -> dict[str, Any]:
    """Return how many operations have not ended."""
    return {"operations": Operation.objects.live().count()}


VERBS = {
    function.__name__: function
    for function in (
        *(prepare, set_policy, ask, cancel, look, die, sweep, live),
        *(add_recipe, ask_often, ask_many, limit_images, create_many, work, count, states),
    )
}

if settings.DS01_ENGINE.endswith("FakeEngine"):
    get_engine().add_image(BASE)  # type: ignore[attr-defined]

if __name__ == "__main__":
    wishes = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
    print(json.dumps(VERBS[sys.argv[1]](**wishes)))
