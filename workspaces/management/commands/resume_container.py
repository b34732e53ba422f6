"""`manage.py resume_container`: let a paused container go on."""

from __future__ import annotations

from workspaces.management.verbs import VerbCommand


class Command(VerbCommand):
    help = "Let a paused container go on."
    verb = "resume"
