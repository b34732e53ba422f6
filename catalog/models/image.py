"""Images that containers can start from: AIME's catalogue, people's own, local ones allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from catalog.architectures import CudaVersion, image_cuda_version
from catalog.frameworks import display_framework
from catalog.models.recipe import Recipe

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser

    from ds01portal.models import Person


class ImageQuerySet(models.QuerySet["Image"]):
    """Reads of images; which ones a person sees is decided here."""

    def active(self) -> ImageQuerySet:
        """Return those that are not retired."""
        return self.filter(retired_at=None)

    def catalogue(self) -> ImageQuerySet:
        """Return the catalogue's rows, retired ones too."""
        return self.filter(kind=Image.Kind.CATALOG)

    def local(self) -> ImageQuerySet:
        """Return the images of this machine that an admin allowed, retired ones too."""
        return self.filter(kind=Image.Kind.LOCAL)

    def custom(self) -> ImageQuerySet:
        """Return the versions that people built, retired ones too."""
        return self.filter(kind=Image.Kind.CUSTOM)

    def on_engine(self) -> ImageQuerySet:
        """Return those that were on this machine at the last look."""
        return self.exclude(engine_image_id="")

    def launchable(self) -> ImageQuerySet:
        """Return those a container can start from: what cannot be pulled must be here."""
        here = ~Q(engine_image_id="") & (
            Q(kind=Image.Kind.LOCAL, visible=True) | Q(kind=Image.Kind.CUSTOM)
        )
        return self.active().filter(Q(kind=Image.Kind.CATALOG) | here)

    def visible_to(self, person: Person | AnonymousUser) -> ImageQuerySet:
        """Return those a person may know of; retired ones stay known, containers show them."""
        if not person.is_authenticated:
            return self.none()
        if person.is_staff:
            return self
        recipes = Recipe.objects.visible_to(person).values("pk")
        return self.filter(
            Q(kind=Image.Kind.CATALOG)
            | Q(kind=Image.Kind.LOCAL, visible=True)
            | Q(kind=Image.Kind.CUSTOM, recipe__in=recipes)
            | Q(kind=Image.Kind.CUSTOM, owner=person)
        )

    def for_architecture(self, architecture: str) -> ImageQuerySet:
        """Return those whose list of architectures has this one."""
        return self.filter(architectures__contains=f";{architecture};")

    def in_order(self) -> ImageQuerySet:
        """Return them as the catalogue lists them: newest first, then own and local ones."""
        return self.order_by("kind", "position", "-number", "pk")


class Image(models.Model):
    """One image. A catalogue row is known by framework, version and architectures.

    `architectures` is stored sorted as `;A;B;` so that every database finds a member by
    `contains`; use `architecture_list`. `engine_image_id` is empty while the image is not on
    this machine. Rows are retired, never deleted: containers and history name them.

    A custom image is one version of a recipe: `number`, and `layers`, a list of {id, bytes} of
    what was put on top of its base.
    """

    class Kind(models.TextChoices):
        CATALOG = "catalog", _("catalogue")  # a row of the catalogue; can be pulled
        LOCAL = "local", _("local")  # on this machine only, allowed by an admin
        CUSTOM = "custom", _("custom")  # built from a recipe

    class RetiredCause(models.TextChoices):
        NONE = "", _("in use")  # not retired
        VANISHED = "vanished", _("no longer in the catalogue")  # comes back when listed again
        ADMIN = "admin", _("retired by an admin")  # stays so whatever the catalogue says
        DELETED = "deleted", _("deleted by its owner")
        PRUNED = "pruned", _("pruned")  # an old version, or unused for too long

    kind = models.CharField(_("kind"), max_length=10, choices=Kind, default=Kind.CATALOG)
    framework = models.CharField(_("framework"), max_length=64)  # as the catalogue writes it
    framework_slug = models.CharField(_("framework"), max_length=64, db_index=True, editable=False)
    version = models.CharField(_("version"), max_length=64)
    architectures = models.CharField(_("architectures"), max_length=300, blank=True)
    reference = models.CharField(_("image"), max_length=255)
    position = models.PositiveIntegerField(_("position"), default=0)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.PROTECT,
        null=True,
        blank=True,
        related_name="images",
        verbose_name=_("owner"),
    )
    recipe = models.ForeignKey(Recipe, models.PROTECT, null=True, blank=True, related_name="images")
    number = models.PositiveIntegerField(_("number"), null=True, blank=True)
    base_reference = models.CharField(_("base"), max_length=300, blank=True)
    base_engine_id = models.CharField(max_length=80, blank=True)
    layers = models.JSONField(_("own layers"), default=list, blank=True)
    last_used_at = models.DateTimeField(_("last used"), null=True, blank=True)
    unused_notice_at = models.DateTimeField(_("owner told it is unused"), null=True, blank=True)
    visible = models.BooleanField(
        _("offered"), default=True, help_text=_("Local images only: offer it to everybody.")
    )
    retired_at = models.DateTimeField(_("retired"), null=True, blank=True)
    retired_cause = models.CharField(
        _("why retired"), max_length=10, choices=RetiredCause, default=RetiredCause.NONE, blank=True
    )
    retired_reason = models.CharField(_("reason"), max_length=300, blank=True)
    engine_image_id = models.CharField(_("id on the engine"), max_length=80, blank=True)
    size_bytes = models.BigIntegerField(_("size"), null=True, blank=True)
    last_seen_on_engine_at = models.DateTimeField(_("last seen here"), null=True, blank=True)
    created_at = models.DateTimeField(_("added"), auto_now_add=True)
    updated_at = models.DateTimeField(_("changed"), auto_now=True)

    objects = ImageQuerySet.as_manager()

    class Meta:
        verbose_name = _("image")
        verbose_name_plural = _("images")
        ordering = ["kind", "position", "pk"]
        indexes = [models.Index(fields=["kind", "position"], name="image_in_order")]
        constraints = [
            models.UniqueConstraint(
                fields=["framework_slug", "version", "architectures"],
                condition=Q(kind="catalog"),
                name="image_one_row_per_key",
            ),
            models.UniqueConstraint(
                fields=["reference"], condition=Q(kind="local"), name="image_one_local_reference"
            ),
            models.UniqueConstraint(
                fields=["recipe", "number"],
                condition=Q(kind="custom"),
                name="image_one_number_per_recipe",
            ),
            models.CheckConstraint(
                name="image_custom_has_owner_and_number",
                condition=~Q(kind="custom")
                | Q(owner__isnull=False, recipe__isnull=False, number__isnull=False),
            ),
            models.CheckConstraint(
                name="image_retired_has_a_cause",
                condition=(
                    Q(retired_at=None, retired_cause="")
                    | (Q(retired_at__isnull=False) & ~Q(retired_cause=""))
                ),
            ),
            models.CheckConstraint(
                name="image_of_catalogue_has_architectures",
                condition=~Q(kind="catalog") | ~Q(architectures=""),
            ),
        ]

    def __str__(self) -> str:
        if self.kind == self.Kind.CUSTOM:
            return self.reference.rpartition("/")[2]
        return f"{self.display_framework} {self.version}".strip()

    def get_absolute_url(self) -> str:
        return reverse("image-detail", args=[self.pk])

    @property
    def display_framework(self) -> str:
        """Return the framework's name in its makers' spelling."""
        return display_framework(self.framework)

    @property
    def framework_label(self) -> str:
        """Return the value of AIME's label `aime.mlc.FRAMEWORK`: `Pytorch-2.7.1`."""
        return f"{self.framework}-{self.version}"

    @property
    def architecture_list(self) -> list[str]:
        """Return the architectures, sorted."""
        return [name for name in self.architectures.split(";") if name]

    @property
    def architectures_text(self) -> str:
        """Return the architectures for reading: `CUDA_ADA, CUDA_AMPERE`."""
        return ", ".join(self.architecture_list)

    @property
    def cuda_version(self) -> CudaVersion | None:
        """Return the CUDA version that the image's name states."""
        return image_cuda_version(self.reference)

    @property
    def is_on_engine(self) -> bool:
        """Say whether it was on this machine at the last look."""
        return bool(self.engine_image_id)

    @property
    def is_retired(self) -> bool:
        """Say whether it is no longer offered."""
        return self.retired_at is not None

    @property
    def is_custom(self) -> bool:
        """Say whether somebody built it from a recipe."""
        return self.kind == self.Kind.CUSTOM

    @property
    def own_bytes(self) -> int:
        """Return what its own layers take, without the base."""
        return sum(int(layer["bytes"]) for layer in self.layers)

    @property
    def is_launchable(self) -> bool:
        """Say whether a container can start from it; the same rule as `launchable()`."""
        if self.is_retired:
            return False
        if self.kind == self.Kind.CATALOG:
            return True
        return self.is_on_engine and (self.visible or self.is_custom)


def write_architectures(names: list[str] | tuple[str, ...]) -> str:
    """Return the stored form of a list of architectures."""
    return f";{';'.join(sorted(names))};" if names else ""
