"""Application config of the containers' app."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class WorkspacesConfig(AppConfig):
    """Containers, devices, assignments and shared folders."""

    name = "workspaces"
    verbose_name = _("Containers and GPUs")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks, and who uses images."""
        from workspaces import checks
        from workspaces.services import image_users

        checks.register_checks()
        image_users.register()
