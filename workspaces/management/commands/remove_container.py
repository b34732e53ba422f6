"""`manage.py remove_container`: remove a container, not its workspace."""

from __future__ import annotations

from workspaces.management.verbs import VerbCommand


class Command(VerbCommand):
    help = "Remove a container; its workspace stays, what was installed inside is gone."
    verb = "remove"
