"""`manage.py restart_container`: stop and start a container."""

from __future__ import annotations

from workspaces.management.verbs import VerbCommand


class Command(VerbCommand):
    help = "Stop and start a running container in one go."
    verb = "restart"
