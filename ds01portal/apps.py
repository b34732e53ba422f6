"""Application config of the ground floor."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class PortalConfig(AppConfig):
    """People, quotas, operations and events."""

    name = "ds01portal"
    verbose_name = _("People and limits")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks."""
        from ds01portal import checks

        checks.register_checks()
