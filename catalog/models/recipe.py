"""Recipes: what a person wants in an image of their own; each build makes a version of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser

    from ds01portal.models import Person


class Subject(TypedDict):
    """What events and operations call a recipe."""

    subject_kind: str
    subject_id: str
    subject_label: str


class RecipeQuerySet(models.QuerySet["Recipe"]):
    """Reads of recipes; who may know of one is decided here."""

    def live(self) -> RecipeQuerySet:
        """Return those that are not deleted."""
        return self.filter(deleted_at=None)

    def owned_by(self, person: Person) -> RecipeQuerySet:
        """Return a person's own."""
        return self.live().filter(owner=person)

    def shared_with(self, person: Person) -> RecipeQuerySet:
        """Return what others let this person use."""
        groups = person.groups.values("pk")
        shared = Q(sharing=Recipe.Sharing.EVERYBODY) | Q(
            sharing=Recipe.Sharing.GROUP, shared_group__in=groups
        )
        return self.live().filter(shared).exclude(owner=person)

    def visible_to(self, person: Person | AnonymousUser) -> RecipeQuerySet:
        """Return those a person may see, use and fork; an admin sees all."""
        if not person.is_authenticated:
            return self.none()
        if person.is_staff:
            return self.live()
        groups = person.groups.values("pk")
        return self.live().filter(
            Q(owner=person)
            | Q(sharing=Recipe.Sharing.EVERYBODY)
            | Q(sharing=Recipe.Sharing.GROUP, shared_group__in=groups)
        )

    def changeable_by(self, person: Person) -> RecipeQuerySet:
        """Return those a person may change, build and delete: their own; all for an admin."""
        return self.live() if person.is_staff else self.owned_by(person)


class Recipe(models.Model):
    """One image by name, such as `thesis`. `content` is the recipe as it is edited now.

    A deleted recipe stays as a row: versions, builds and events name it.
    """

    class Sharing(models.TextChoices):
        PRIVATE = "private", _("only me")
        GROUP = "group", _("a group")  # members of `shared_group` see, use and fork it
        EVERYBODY = "everybody", _("everybody")

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="recipes", verbose_name=_("owner")
    )
    name = models.CharField(_("name"), max_length=60)
    description = models.CharField(_("description"), max_length=300, blank=True)
    content = models.JSONField(_("recipe"), default=dict)
    sharing = models.CharField(
        _("shared with"), max_length=10, choices=Sharing, default=Sharing.PRIVATE
    )
    shared_group = models.ForeignKey(
        Group, models.SET_NULL, null=True, blank=True, verbose_name=_("group")
    )
    # The version that it was copied from, of whoever.
    forked_from = models.ForeignKey(
        "catalog.Image", models.SET_NULL, null=True, blank=True, related_name="forks"
    )
    last_number = models.PositiveIntegerField(_("last version"), default=0)
    created_at = models.DateTimeField(_("made"), auto_now_add=True)
    changed_at = models.DateTimeField(_("changed"), auto_now=True)
    deleted_at = models.DateTimeField(_("deleted"), null=True, blank=True)

    objects = RecipeQuerySet.as_manager()

    class Meta:
        verbose_name = _("recipe")
        verbose_name_plural = _("recipes")
        ordering = ["owner", "name"]
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "name"],
                condition=Q(deleted_at=None),
                name="recipe_one_name_per_owner",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("recipe-detail", args=[self.pk])

    @property
    def subject(self) -> Subject:
        """Return what events and operations call it."""
        return {
            "subject_kind": "recipe",
            "subject_id": str(self.pk),
            "subject_label": f"{self.owner.username}/{self.name}",
        }

    @property
    def repository(self) -> str:
        """Return `ds01-{uid}/{name}`, the name of its images on the engine."""
        return f"ds01-{self.owner.uid}/{self.name}"

    def reference(self, number: int | str) -> str:
        """Return the image reference of a version, or of `latest`."""
        return f"{self.repository}:{number}"

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "id": self.pk,
            "owner": self.owner.username,
            "name": self.name,
            "description": self.description,
            "repository": self.repository,
            "sharing": self.sharing,
            "shared_group": self.shared_group.name if self.shared_group else None,
            "content": self.content,
            "created_at": self.created_at,
            "changed_at": self.changed_at,
        }
