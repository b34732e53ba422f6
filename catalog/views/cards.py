"""Images that people built as cards: versions, size, what is being built, who uses them.

Five queries for any number of images. Not in charge of: which images (the callers start from
`visible_to`), or what a verb does.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from catalog.forms.bases import describe_base
from catalog.models import Build, Image, Recipe
from catalog.uses import find_users
from ds01portal.limits import format_bytes
from ds01portal.models import Person


@dataclass(kw_only=True, slots=True)
class RecipeCard:
    """One image by name as `viewer` sees it. `versions` are the live ones, newest first."""

    recipe: Recipe
    viewer: Person
    versions: list[Image] = field(default_factory=list)
    live_build: Build | None = None
    last_build: Build | None = None
    users: dict[int, list[str]] = field(default_factory=dict)

    @property
    def latest(self) -> Image | None:
        """Return the version that `latest` names."""
        return next(iter(self.versions), None)

    @property
    def is_mine(self) -> bool:
        """Whether the viewer owns it."""
        return self.recipe.owner_id == self.viewer.pk

    @property
    def can_change(self) -> bool:
        """Whether the viewer may change, build and delete it."""
        return self.is_mine or self.viewer.is_staff

    @property
    def can_launch(self) -> bool:
        """Whether a container can start from the latest version."""
        return self.latest is not None and self.latest.is_launchable

    @property
    def state(self) -> str:
        """Return the word for the colour of its pill."""
        if self.live_build is not None:
            return "queued" if self.live_build.state == Build.State.QUEUED else "busy"
        if self._failed_last:
            return "failed"
        return "ready" if self.can_launch else "away"

    @property
    def state_label(self) -> str:
        """Return the pill's word."""
        if self.live_build is not None:
            return str(self.live_build.get_state_display())
        if self._failed_last:
            return _("Last build failed")
        if self.latest is None:
            return _("Not built yet")
        return _("Ready") if self.can_launch else _("Not on this machine")

    @property
    def _failed_last(self) -> bool:
        last = self.last_build
        return self.can_change and last is not None and last.state == Build.State.FAILED

    @property
    def base_text(self) -> str:
        """Return what it stands on."""
        return describe_base(self.recipe.content.get("base") or {})

    @property
    def sharing_text(self) -> str:
        """Return who may use it."""
        recipe = self.recipe
        if recipe.sharing == Recipe.Sharing.GROUP:
            group = recipe.shared_group.name if recipe.shared_group else _("a group that is gone")
            return _("shared with %(group)s") % {"group": group}
        if recipe.sharing == Recipe.Sharing.EVERYBODY:
            return _("shared with everybody")
        return _("only yours") if self.is_mine else _("private")

    @property
    def size_text(self) -> str:
        """Return the size of the latest version, its own part named."""
        latest = self.latest
        if latest is None or latest.size_bytes is None:
            return ""
        return _("%(size)s, %(own)s of them its own") % {
            "size": format_bytes(latest.size_bytes),
            "own": format_bytes(latest.own_bytes),
        }

    @property
    def used_by(self) -> list[str]:
        """Return the containers that stand on any version."""
        return sorted({name for names in self.users.values() for name in names})

    @property
    def used_text(self) -> str:
        """Return how many containers use it."""
        count = len(self.used_by)
        if not count:
            return ""
        return ngettext("%(count)d container uses it", "%(count)d containers use it", count) % {
            "count": count
        }


def load_recipe_cards(recipes: QuerySet[Recipe], viewer: Person) -> list[RecipeCard]:
    """Return cards in the order of names."""
    rows = recipes.select_related("owner", "shared_group").order_by("name", "pk")
    cards = {row.pk: RecipeCard(recipe=row, viewer=viewer) for row in rows}
    if not cards:
        return []
    versions = Image.objects.custom().active().filter(recipe__in=cards)
    for image in versions.select_related("recipe__owner").order_by("-number"):
        assert image.recipe_id is not None
        cards[image.recipe_id].versions.append(image)
    _add_builds(cards)
    _add_users(cards)
    return list(cards.values())


def load_recipe_card(recipe: Recipe, viewer: Person) -> RecipeCard:
    """Return the card of one image."""
    return load_recipe_cards(Recipe.objects.filter(pk=recipe.pk), viewer)[0]


def _add_builds(cards: dict[int, RecipeCard]) -> None:
    builds = Build.objects.filter(recipe__in=cards).order_by("created_at")
    for build in builds.only("recipe_id", "number", "state", "created_at"):
        card = cards[build.recipe_id]
        card.last_build = build
        card.live_build = build if build.is_live else None


def _add_users(cards: dict[int, RecipeCard]) -> None:
    images: dict[int, int] = {
        image.pk: card.recipe.pk for card in cards.values() for image in card.versions
    }
    found: dict[int, dict[int, list[str]]] = defaultdict(dict)
    for pk, names in find_users(images).items():
        if names:
            found[images[pk]][pk] = sorted(names)
    for key, users in found.items():
        cards[key].users = users
