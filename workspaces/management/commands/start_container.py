"""`manage.py start_container`: start a stopped container."""

from __future__ import annotations

from workspaces.management.verbs import VerbCommand


class Command(VerbCommand):
    help = "Start a stopped container; it keeps its GPU, or gets one again."
    verb = "start"
