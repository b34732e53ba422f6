"""What admins allow in builds, and how much of the machine a build may use. One row."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

GIB = 1024**3


class BuildPolicy(models.Model):
    """The rules. `current()` returns the row, with the safe defaults when there is none."""

    SINGLETON = 1

    class PostInstall(models.TextChoices):
        NOBODY = "nobody", _("nobody")
        ADMINS = "admins", _("admins")
        EVERYBODY = "everybody", _("everybody")

    id = models.PositiveSmallIntegerField(primary_key=True, default=SINGLETON, editable=False)

    registries = models.TextField(
        _("other bases"),
        blank=True,
        help_text=_(
            "Images outside of the catalogue that recipes may build on, one pattern a line, such "
            "as nvcr.io/nvidia/*. Empty: catalogue and custom images only."
        ),
    )
    apt_pattern = models.CharField(
        _("system packages"),
        max_length=300,
        default=r"[a-z0-9][a-z0-9.+-]*",
        help_text=_("Regular expression that the whole name of a package must match."),
    )
    allow_urls = models.BooleanField(
        _("packages by URL"), default=False, help_text=_("name @ https://… and git+https://…")
    )
    allow_index_options = models.BooleanField(
        _("other package indexes"), default=False, help_text=_("--index-url and the like")
    )
    allow_editable = models.BooleanField(
        _("editable packages"), default=False, help_text=_("-e git+https://…")
    )
    post_install = models.CharField(
        _("own shell lines"), max_length=10, choices=PostInstall, default=PostInstall.ADMINS
    )
    host_network = models.BooleanField(
        _("build in the host's network"),
        default=False,
        help_text=_("Lets packages reach everything that the host can reach. Leave it off."),
    )
    snapshots = models.BooleanField(
        _("snapshots"),
        default=False,
        help_text=_("Let people keep a running container as an image, whatever is in it."),
    )

    builds_per_person = models.PositiveSmallIntegerField(
        _("builds at once per person"), default=1, validators=[MinValueValidator(1)]
    )
    builds_in_all = models.PositiveSmallIntegerField(
        _("builds at once"), default=2, validators=[MinValueValidator(1), MaxValueValidator(8)]
    )
    cpus = models.FloatField(_("cores"), default=4, validators=[MinValueValidator(0.1)])
    memory_bytes = models.PositiveBigIntegerField(_("memory"), default=8 * GIB)
    pids = models.PositiveIntegerField(
        _("processes"), default=1024, validators=[MinValueValidator(16)]
    )
    timeout_seconds = models.PositiveIntegerField(
        _("longest build"), default=3600, validators=[MinValueValidator(10)]
    )
    disk_bytes = models.PositiveBigIntegerField(_("disk of one build"), default=20 * GIB)
    log_bytes = models.PositiveIntegerField(
        _("log kept"), default=2 * 1024**2, validators=[MinValueValidator(16_384)]
    )

    versions_kept = models.PositiveSmallIntegerField(
        _("versions kept"), default=3, validators=[MinValueValidator(1)]
    )
    unused_days = models.PositiveSmallIntegerField(
        _("days until an unused image goes"), default=90, help_text=_("0: never.")
    )
    notice_days = models.PositiveSmallIntegerField(_("days of notice before that"), default=14)
    free_disk_floor_bytes = models.PositiveBigIntegerField(
        _("no build below this much free disk"), default=20 * GIB
    )
    disk_alarm_percent = models.PositiveSmallIntegerField(
        _("alarm when the disk is this full"), default=85, validators=[MaxValueValidator(100)]
    )

    class Meta:
        verbose_name = _("build policy")
        verbose_name_plural = _("build policy")
        constraints = [models.CheckConstraint(name="build_policy_one_row", condition=Q(id=1))]

    def __str__(self) -> str:
        return str(_("build policy"))

    @classmethod
    def current(cls) -> BuildPolicy:
        """Return the rules that hold now."""
        return cls.objects.filter(pk=cls.SINGLETON).first() or cls()
