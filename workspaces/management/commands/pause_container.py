"""`manage.py pause_container`: freeze a running container."""

from __future__ import annotations

from workspaces.management.verbs import VerbCommand


class Command(VerbCommand):
    help = "Freeze a running container; it keeps its memory and its GPU."
    verb = "pause"
