"""`manage.py stop_container`: stop a container."""

from __future__ import annotations

from workspaces.management.verbs import VerbCommand


class Command(VerbCommand):
    help = "Stop a running or paused container; its GPU is held for a while."
    verb = "stop"
