"""What a recipe can stand on, as the builder offers it: by framework, own, shared, local.

Not in charge of: whether a base is accepted in the end (`services.recipe_bases`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext as _

from catalog.architectures import Fit, HostArchitecture
from catalog.browsing import FrameworkShelf, ImageFilter, JudgedImage, arrange_images
from catalog.forms.bases import REFERENCE, describe_base, image_key, read_base
from catalog.models import BuildPolicy, Image, Recipe
from catalog.services.policies import allowed_bases
from catalog.views.cards import RecipeCard, load_recipe_cards
from ds01portal.models import Person

SHOWN = 5  # versions before the older ones are folded away


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseChoice:
    """One radio button."""

    key: str
    label: str
    detail: str = ""
    name: str = ""  # in full, for the summary
    here: bool = False
    reason: str = ""  # why it cannot be chosen


@dataclass(kw_only=True, slots=True)
class BaseShelf:
    """A framework, or one image of somebody: the first choices, and those folded away."""

    name: str
    first: list[BaseChoice] = field(default_factory=list)
    more: list[BaseChoice] = field(default_factory=list)
    detail: str = ""

    def holds(self, key: str) -> bool:
        """Tell whether the choice is among those folded away."""
        return any(choice.key == key for choice in self.more)


@dataclass(kw_only=True, slots=True)
class BaseOffer:
    """Everything that may be chosen. `kept` is what the recipe says and nothing else offers."""

    chosen: str
    shelves: list[BaseShelf]
    own: list[BaseShelf]
    shared: list[BaseShelf]
    local: list[BaseChoice]
    patterns: tuple[str, ...]
    kept: BaseChoice | None = None

    @property
    def chosen_name(self) -> str:
        """Return the chosen base in words."""
        for choice in self._all():
            if choice.key == self.chosen:
                return choice.name or choice.label
        return ""

    def _all(self) -> list[BaseChoice]:
        shelves = [*self.shelves, *self.own, *self.shared]
        found = [choice for shelf in shelves for choice in (*shelf.first, *shelf.more)]
        return [*found, *self.local, *([self.kept] if self.kept else [])]

    def has(self, key: str) -> bool:
        """Tell whether a value is offered."""
        return any(choice.key == key for choice in self._all())


def offer_bases(
    *,
    person: Person,
    host: HostArchitecture,
    chosen: str,
    reference: str,
    recipe: Recipe | None,
) -> BaseOffer:
    """Return what the person may build on; a recipe does not offer itself.

    `chosen` is the value of the radio buttons, `reference` the name typed beside them.
    """
    images = list(
        Image.objects.visible_to(person).launchable().exclude(kind=Image.Kind.CUSTOM).in_order()
    )
    catalogue = arrange_images(images, host=host, wanted=ImageFilter())
    mine = load_recipe_cards(Recipe.objects.owned_by(person), person)
    others = load_recipe_cards(Recipe.objects.shared_with(person), person)
    offer = BaseOffer(
        chosen=chosen,
        shelves=[_framework(shelf, host) for shelf in catalogue],
        own=_custom(mine, recipe),
        shared=_custom(others, recipe),
        local=[_local(image) for image in images if image.kind == Image.Kind.LOCAL],
        patterns=allowed_bases(policy=BuildPolicy.current()),
    )
    offer.shelves.sort(key=lambda shelf: not shelf.first)
    named = f"{REFERENCE}:{reference}"
    if chosen == REFERENCE and reference and (offer.has(named) or not offer.patterns):
        # A local image has a button of its own; without patterns there is no field for names.
        offer.chosen = named
    if offer.chosen not in ("", REFERENCE) and not offer.has(offer.chosen):
        words = describe_base(read_base(offer.chosen, ""))
        offer.kept = BaseChoice(key=offer.chosen, label=words, name=words)
    return offer


def default_base(images: list[FrameworkShelf]) -> dict[str, Any]:
    """Return the sensible start: the newest PyTorch, else the first framework that fits."""
    fitting = [shelf for shelf in images if shelf.default is not None] or images
    names = [shelf.slug for shelf in fitting]
    slug = "pytorch" if "pytorch" in names else next(iter(names), "pytorch")
    return {"kind": "catalog", "framework": slug, "version": "", "architecture": ""}


def _framework(shelf: FrameworkShelf, host: HostArchitecture) -> BaseShelf:
    good = [group for group in shelf.groups if group.fit in (Fit.FITS, Fit.UNKNOWN)]
    fitting = [_version(item, host) for group in good for item in group.items]
    rest = [
        _version(item, host, detail=group.title)
        for group in shelf.groups
        if group not in good
        for item in group.items
    ]
    made = BaseShelf(name=shelf.name, first=fitting[:SHOWN], more=[*fitting[SHOWN:], *rest])
    if shelf.default is not None:
        newest = BaseChoice(
            key=f"catalog:{shelf.slug}::",
            label=_("newest"),
            detail=_("%(version)s now") % {"version": shelf.default.image.version},
            name=_("%(name)s, the newest") % {"name": shelf.name},
            here=shelf.default.image.is_on_engine,
        )
        made.first.insert(0, newest)
    return made


def _version(item: JudgedImage, host: HostArchitecture, detail: str = "") -> BaseChoice:
    image = item.image
    return BaseChoice(
        key=image_key(image, host),
        label=image.version,
        detail=detail and image.architectures_text,
        name=str(image),
        here=image.is_on_engine,
        reason=item.judgement.reason if item.cannot_run else "",
    )


def _custom(cards: list[RecipeCard], recipe: Recipe | None) -> list[BaseShelf]:
    shelves = []
    for card in cards:
        if not card.versions or (recipe is not None and card.recipe.pk == recipe.pk):
            continue
        full = f"{card.recipe.owner.username}/{card.recipe.name}"
        newest = BaseChoice(
            key=f"custom:{full}",
            label=_("latest"),
            detail=_("%(number)s now") % {"number": card.versions[0].number},
            name=_("%(name)s, the latest") % {"name": full},
            here=True,
        )
        numbers = [
            BaseChoice(
                key=f"custom:{full}:{image.number}",
                label=f":{image.number}",
                name=f"{full}:{image.number}",
                here=image.is_on_engine,
                reason="" if image.is_launchable else _("It is not on this machine."),
            )
            for image in card.versions
        ]
        name = card.recipe.name if card.is_mine else full
        shelves.append(
            BaseShelf(name=name, first=[newest], more=numbers, detail=card.recipe.description)
        )
    return shelves


def _local(image: Image) -> BaseChoice:
    return BaseChoice(
        key=f"reference:{image.reference}", label=str(image), detail=image.reference, here=True
    )
