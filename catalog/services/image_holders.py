"""What holds a custom image: containers, builds on top of it, and images that others made on it.

Reads only. Not in charge of: what follows from it (`image_care`, `image_prune`, `image_sweep`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Q

from catalog.models import Build, Image
from catalog.uses import find_users

__all__ = ["Holders", "find_holders"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Holders:
    """What holds one image, by name. `images` are versions of other recipes that stand on it."""

    containers: tuple[str, ...] = ()
    builds: tuple[str, ...] = ()
    images: tuple[str, ...] = ()

    @property
    def in_use(self) -> bool:
        """Say whether something works with it now."""
        return bool(self.containers or self.builds)

    @property
    def any(self) -> bool:
        """Say whether anything would miss it."""
        return bool(self.containers or self.builds or self.images)

    def explain(self) -> str:
        """Return why it is kept, in the owner's words; nothing when nothing holds it."""
        parts = []
        if self.containers:
            parts.append(f"used by {_few(self.containers)}")
        if self.builds:
            parts.append(f"being built on for {_few(self.builds)}")
        if self.images:
            parts.append(f"the base of {_few(self.images)}")
        return ", ".join(parts)


def find_holders(images: Iterable[Image]) -> dict[int, Holders]:
    """Return primary key → holders, with an entry for every image. Four queries."""
    rows = list(images)
    containers = find_users([row.pk for row in rows])
    standing = _stand_on(rows)
    building = _built_on(rows)
    return {
        row.pk: Holders(
            containers=tuple(containers.get(row.pk, ())),
            builds=tuple(sorted(building[row.pk])),
            images=tuple(sorted(standing[row.pk])),
        )
        for row in rows
    }


def _stand_on(rows: list[Image]) -> defaultdict[int, set[str]]:
    found: defaultdict[int, set[str]] = defaultdict(set)
    others = Image.objects.custom().active().filter(_based_on(rows)).select_related("recipe__owner")
    for other in others:
        for row in rows:
            if _is_base(row, other) and other.recipe_id != row.recipe_id and other.recipe:
                found[row.pk].add(f"{other.recipe.owner.username}/{other.recipe.name}")
    return found


def _built_on(rows: list[Image]) -> defaultdict[int, set[str]]:
    found: defaultdict[int, set[str]] = defaultdict(set)
    builds = Build.objects.live().filter(_based_on(rows)).select_related("recipe__owner")
    for build in builds:
        for row in rows:
            if _is_base(row, build):
                found[row.pk].add(f"{build.recipe.owner.username}/{build.recipe.name}")
    return found


def _based_on(rows: list[Image]) -> Q:
    references = [row.reference for row in rows]
    engine_ids = [row.engine_image_id for row in rows if row.engine_image_id]
    return Q(base_reference__in=references) | Q(base_engine_id__in=engine_ids)


def _is_base(row: Image, other: Image | Build) -> bool:
    if other.base_reference == row.reference:
        return True
    return bool(row.engine_image_id) and other.base_engine_id == row.engine_image_id


def _few(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown
