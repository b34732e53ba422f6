"""`manage.py import_users`: create and update people from a CSV file."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from ds01portal.management.base import PortalCommand, read_input
from ds01portal.services.people_import import Outcome, import_users


class Command(PortalCommand):
    help = "Create and update people from a CSV file: all lines, or none when any is refused."

    json_help = "print the report as JSON"

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument("file", help="CSV: username,email,group and optionally uid,gid")
        parser.add_argument("--dry-run", action="store_true", help="say what would be done")

    def act(self, options: dict[str, Any]) -> None:
        report = import_users(text=read_input(options["file"]), dry_run=options["dry_run"])
        if options["json"]:
            self.write_json(report.as_dict())
        else:
            for line in report.lines:
                name = f" {line.username}" if line.username else ""
                detail = f": {line.detail}" if line.detail else ""
                self.say(f"line {line.line}: {line.outcome.value}{name}{detail}")
        counts = ", ".join(f"{report.count(outcome)} {outcome.value}" for outcome in Outcome)
        if report.refused:
            raise CommandError(f"Nothing was changed: {len(report.refused)} problems ({counts}).")
        if not options["json"]:
            done = "Done" if report.applied else "Trial run, nothing was changed"
            self.say(f"{done}: {counts}.")
