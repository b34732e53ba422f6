"""What did I install? The packages of a running container against those of its image.

The answer is offered as an addition to a recipe, so that the next container has it from the
start. Not in charge of: whether the recipe can be built with it (`recipes` and its checks).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from catalog.models import Image, Recipe
from catalog.packages import LIST_COMMAND, AptPackage, Listing, PipPackage, parse_listing
from catalog.recipes.names import suggest_image_name
from catalog.recipes.requirements import PERMISSIVE, parse_requirements
from catalog.services.package_facts import read_packages
from ds01portal.engine import get_engine
from ds01portal.engine.base import ContainerEngine
from ds01portal.exceptions import (
    EngineConflict,
    EngineError,
    EngineTimeout,
    InvalidInput,
    MissingOnEngine,
)
from ds01portal.models import Person
from workspaces.models import Container

__all__ = ["Change", "Difference", "Offer", "find_installed", "offer_addition", "recipe_base"]

TIMEOUT = 60  # seconds
ADDED, CHANGED, REMOVED = "added", "changed", "removed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One package that differs. `before` is empty when the image has it not, `after` when gone.

    `requested`: somebody asked for it; others came with those. `direct`: installed from a
    folder or an address, so its name alone would not bring it back.
    """

    manager: str  # pip | apt
    name: str
    before: str = ""
    after: str = ""
    requested: bool = True
    direct: bool = False

    @property
    def kind(self) -> str:
        """Return added, changed or removed."""
        if not self.before:
            return ADDED
        return CHANGED if self.after else REMOVED

    @property
    def can_add(self) -> bool:
        """Say whether a recipe can bring it: what is gone cannot, nor what is no index's."""
        return bool(self.after) and not self.direct

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "manager": self.manager,
            "name": self.name,
            "kind": self.kind,
            "before": self.before or None,
            "after": self.after or None,
            "requested": self.requested,
            "direct": self.direct,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """What differs, by manager and name. `trouble` says why nothing can be said: "" | "stopped"
    (it does not run) | "missing" (it is not on the engine) | "unreadable" (no answer that makes
    sense, or its image cannot be read) | "engine".
    """

    changes: tuple[Change, ...] = ()
    trouble: str = ""
    read_at: dt.datetime

    def of_kind(self, kind: str) -> list[Change]:
        """Return those added, changed or removed."""
        return [change for change in self.changes if change.kind == kind]

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "trouble": self.trouble or None,
            "read_at": self.read_at,
            "changes": [change.as_dict() for change in self.changes],
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """A recipe's content with the additions. `recipe` is the one to change, None for a new one.

    `name` is a suggestion for a new one; `added` are the lines that came in.
    """

    content: dict[str, Any]
    recipe: Recipe | None
    name: str
    added: tuple[str, ...]


def find_installed(*, container: Container, engine: ContainerEngine | None = None) -> Difference:
    """Return what a running container has that its image has not. Raises nothing.

    A few seconds: it is asked inside, and its image once, in a container that reaches nothing.
    """
    now = timezone.now()
    if container.state != Container.State.RUNNING:
        return Difference(trouble="stopped", read_at=now)
    chosen = engine or get_engine()
    try:
        _code, output = chosen.run_command(
            container.engine_name, ("/bin/sh", "-c", LIST_COMMAND), timeout=TIMEOUT
        )
        inside = parse_listing(output)
        if not inside.whole:
            return Difference(trouble="unreadable", read_at=now)
        image = read_packages(
            engine_image_id=container.image_engine_id,
            reference=container.image_reference,
            engine=chosen,
        )
    except MissingOnEngine:
        return Difference(trouble="missing", read_at=now)
    except EngineConflict:
        return Difference(trouble="stopped", read_at=now)
    except EngineTimeout:
        return Difference(trouble="engine", read_at=now)
    except EngineError as error:
        trouble = "unreadable" if error.code == EngineError.code else "engine"
        return Difference(trouble=trouble, read_at=now)
    return Difference(changes=tuple(_compare(inside, image.pip, image.apt)), read_at=now)


def _compare(inside: Listing, pip: Mapping[str, str], apt: Mapping[str, str]) -> list[Change]:
    changes = []
    packages: tuple[tuple[str, Mapping[str, PipPackage | AptPackage], Mapping[str, str]], ...] = (
        ("pip", inside.pip, pip),
        ("apt", inside.apt, apt),
    )
    for manager, have, had in packages:
        for name in sorted({*have, *had}):
            package = have.get(name)
            before, after = had.get(name, ""), package.version if package else ""
            if before == after:
                continue
            changes.append(
                Change(
                    manager=manager,
                    name=name,
                    before=before,
                    after=after,
                    requested=package.requested if package else True,
                    direct=isinstance(package, PipPackage) and package.direct,
                )
            )
    return changes


def own_recipe(*, container: Container, person: Person) -> Recipe | None:
    """Return the recipe that the container's image was built from, if the person may change it."""
    if container.image is None or container.image.recipe_id is None:
        return None
    return Recipe.objects.changeable_by(person).filter(pk=container.image.recipe_id).first()


def recipe_base(*, container: Container) -> dict[str, str]:
    """Return the base of a recipe that stands on what the container was started from."""
    image = container.image
    if image is None:
        return {"kind": "reference", "reference": container.image_reference}
    if image.kind == Image.Kind.CUSTOM and image.recipe is not None:
        recipe = image.recipe
        return {
            "kind": "custom",
            "image": f"{recipe.owner.username}/{recipe.name}:{image.number}",
        }
    if image.kind == Image.Kind.CATALOG:
        return {
            "kind": "catalog",
            "framework": image.framework,
            "version": image.version,
            "architecture": container.architecture,
        }
    return {"kind": "reference", "reference": image.reference}


def offer_addition(
    *,
    container: Container,
    person: Person,
    difference: Difference,
    pip: Iterable[str],
    apt: Iterable[str],
) -> Offer:
    """Return a recipe's content with the packages named, at the versions found inside.

    Where the container stands on a recipe that the person may change it is that one, else a new
    one on the container's image. Raise InvalidInput when nothing was chosen, or for a package
    that is not among what can be added.
    """
    chosen_pip = _choose(difference, "pip", pip)
    chosen_apt = _choose(difference, "apt", apt)
    if not chosen_pip and not chosen_apt:
        raise InvalidInput(
            "Nothing is chosen.", hint="Tick at least one package.", field="packages"
        )
    recipe = own_recipe(container=container, person=person)
    content: dict[str, Any] = (
        dict(recipe.content) if recipe else {**NEW, "base": recipe_base(container=container)}
    )
    pins = {change.name: f"{change.name}=={_public(change.after)}" for change in chosen_pip}
    content["requirements"] = merge_requirements(str(content.get("requirements", "")), pins)
    packages = [*content.get("apt", ()), *(change.name for change in chosen_apt)]
    content["apt"] = list(dict.fromkeys(packages))
    return Offer(
        content=content,
        recipe=recipe,
        name=recipe.name if recipe else suggest_image_name(container.name),
        added=(*pins.values(), *(change.name for change in chosen_apt)),
    )


NEW: Mapping[str, Any] = {
    "jupyter": {"choice": "none", "packages": []},
    "data_science": {"choice": "none", "packages": []},
    "use_case": "",
    "use_case_packages": [],
    "requirements": "",
    "apt": [],
    "environment": {},
    "post_install": [],
    "fresh": False,
}


def _choose(difference: Difference, manager: str, names: Iterable[str]) -> list[Change]:
    there = {
        change.name: change
        for change in difference.changes
        if change.manager == manager and change.can_add
    }
    wanted = list(dict.fromkeys(names))
    for name in wanted:
        if name not in there:
            raise InvalidInput(
                f"“{name[:60]}” is not among what was installed and can be added.",
                hint="Look again: the container may have changed meanwhile.",
                field="packages",
                value=name[:60],
            )
    return [there[name] for name in wanted]


def _public(version: str) -> str:
    """Return a version as an index knows it: without the local part, such as +cu124."""
    return version.partition("+")[0]


def merge_requirements(text: str, pins: Mapping[str, str]) -> str:
    """Return a requirements text with these lines, in place of what it said of those packages.

    Lines about other packages, comments and options stay as they were written.
    """
    if not pins:
        return text
    parsed = parse_requirements(text, policy=PERMISSIVE)
    replaced: dict[int, str] = {}
    dropped: set[int] = set()
    for line in parsed.packages:
        if line.name in pins:
            own = range(line.number, max(line.last_number, line.number) + 1)
            dropped.update(own)
            if pins[line.name] not in replaced.values():
                replaced[line.number] = pins[line.name]
    kept = []
    for number, written in enumerate(text.splitlines(), start=1):
        if number in replaced:
            kept.append(replaced[number])
        elif number not in dropped:
            kept.append(written)
    missing = [pin for pin in pins.values() if pin not in replaced.values()]
    return "\n".join([*kept, *missing]).strip("\n") + "\n"
