"""`manage.py import_users`: create and update people from a CSV file."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from ds01portal.management.output import read_input, write_json
from ds01portal.services.people_import import Outcome, import_users


class Command(BaseCommand):
    help = "Create and update people from a CSV file: all lines, or none when any is refused."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", help="CSV: username,email,group and optionally uid,gid")
        parser.add_argument("--dry-run", action="store_true", help="say what would be done")
        parser.add_argument("--json", action="store_true", help="print the report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        report = import_users(text=read_input(options["file"]), dry_run=options["dry_run"])
        if options["json"]:
            write_json(self, report.as_dict())
        else:
            for line in report.lines:
                name = f" {line.username}" if line.username else ""
                detail = f": {line.detail}" if line.detail else ""
                self.stdout.write(f"line {line.line}: {line.outcome.value}{name}{detail}")
        counts = ", ".join(f"{report.count(outcome)} {outcome.value}" for outcome in Outcome)
        if report.refused:
            raise CommandError(f"Nothing was changed: {len(report.refused)} problems ({counts}).")
        if not options["json"]:
            done = "Done" if report.applied else "Trial run, nothing was changed"
            self.stdout.write(f"{done}: {counts}.")
