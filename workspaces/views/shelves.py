"""Images on the launch page: the newest that fit first, everything else folded away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from catalog.architectures import Fit, HostArchitecture
from catalog.browsing import (
    FrameworkShelf,
    ImageFilter,
    ImageGroup,
    JudgedImage,
    arrange_images,
    judge,
)
from catalog.models import Image, Recipe
from ds01portal.models import Person

SHOWN = 6  # versions before the older ones are folded away


@dataclass(kw_only=True, slots=True)
class LaunchShelf:
    """One framework. `others` are images made for other GPUs, with why they are no default."""

    name: str
    slug: str
    default: JudgedImage | None
    first: list[JudgedImage] = field(default_factory=list)
    older: list[JudgedImage] = field(default_factory=list)
    others: list[ImageGroup] = field(default_factory=list)
    chosen: str = ""

    @property
    def other_count(self) -> int:
        """Number of images made for other GPUs."""
        return sum(len(group.items) for group in self.others)

    @property
    def older_open(self) -> bool:
        """Whether the chosen image is among the older ones."""
        return self._holds(self.older)

    @property
    def others_open(self) -> bool:
        """Whether the chosen image is among those for other GPUs."""
        return any(self._holds(group.items) for group in self.others)

    def _holds(self, items: list[JudgedImage]) -> bool:
        return any(str(item.image.pk) == self.chosen for item in items)


@dataclass(kw_only=True, slots=True)
class CustomShelf:
    """An image that somebody built: its latest version, and the older ones."""

    recipe: Recipe
    name: str
    latest: JudgedImage
    older: list[JudgedImage] = field(default_factory=list)
    chosen: str = ""

    @property
    def older_open(self) -> bool:
        """Whether the chosen version is an older one."""
        return any(str(item.image.pk) == self.chosen for item in self.older)


def custom_shelves(
    images: Sequence[Image], host: HostArchitecture, chosen: str, person: Person
) -> tuple[list[CustomShelf], list[CustomShelf]]:
    """Return the person's own images and those of others, by name."""
    shelves: dict[int, CustomShelf] = {}
    custom = (image for image in images if image.recipe is not None)
    for image in sorted(custom, key=lambda one: -(one.number or 0)):
        recipe, item = image.recipe, judge(image, host)
        assert recipe is not None
        if recipe.pk in shelves:
            shelves[recipe.pk].older.append(item)
            continue
        mine = recipe.owner_id == person.pk
        name = recipe.name if mine else f"{recipe.owner.username}/{recipe.name}"
        shelves[recipe.pk] = CustomShelf(recipe=recipe, name=name, latest=item, chosen=chosen)
    found = sorted(shelves.values(), key=lambda shelf: shelf.name)
    return (
        [shelf for shelf in found if shelf.recipe.owner_id == person.pk],
        [shelf for shelf in found if shelf.recipe.owner_id != person.pk],
    )


def make_shelves(images: Sequence[Image], host: HostArchitecture, chosen: str) -> list[LaunchShelf]:
    """Return the frameworks in the catalogue's order, those with nothing that fits at the end."""
    found = arrange_images(images, host=host, wanted=ImageFilter())
    shelves = [_make_shelf(shelf, chosen) for shelf in found]
    return sorted(shelves, key=lambda shelf: not shelf.first)


def _make_shelf(shelf: FrameworkShelf, chosen: str) -> LaunchShelf:
    good = [group for group in shelf.groups if group.fit in (Fit.FITS, Fit.UNKNOWN)]
    items = [item for group in good for item in group.items]
    return LaunchShelf(
        name=shelf.name,
        slug=shelf.slug,
        default=shelf.default,
        first=items[:SHOWN],
        older=items[SHOWN:],
        others=[group for group in shelf.groups if group not in good],
        chosen=chosen,
    )
