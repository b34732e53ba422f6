"""`manage.py import_limits`: set quotas from a `resource-limits.yaml` of DS01."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from ds01portal.exceptions import PortalError
from ds01portal.limits import format_limit
from ds01portal.management.output import as_command_error, read_input, write_json
from ds01portal.services.effective_limits import SPECS
from ds01portal.services.limits_import import LayerChange, LimitsReport, import_limits


class Command(BaseCommand):
    help = "Set quotas from a limits file of DS01, and say what was done with every key."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", help="YAML with defaults, groups and user_overrides")
        parser.add_argument("--dry-run", action="store_true", help="say what would be done")
        parser.add_argument("--json", action="store_true", help="print the report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            report = import_limits(text=read_input(options["file"]), dry_run=options["dry_run"])
        except PortalError as error:
            raise as_command_error(self, error, as_json=options["json"]) from error
        if options["json"]:
            write_json(self, report.as_dict())
            return
        self._print(report)

    def _print(self, report: LimitsReport) -> None:
        for note in report.notes:
            self.stdout.write(
                f"line {note.line:>4}  {note.fate.value:<7}  {note.path}: {note.detail}"
            )
        for change in report.changes:
            self.stdout.write(f"change  {describe_change(change)}")
        for name in report.new_groups:
            self.stdout.write(f"new group  {name}")
        for warning in report.warnings:
            self.stdout.write(f"warning  {warning}")
        counts = Counter(note.fate.value for note in report.notes)
        keys = ", ".join(f"{count} {fate}" for fate, count in counts.items())
        done = "Done" if report.applied else "Trial run, nothing was changed"
        self.stdout.write(f"{done}: {keys}; {len(report.changes)} limits differ from before.")


def describe_change(change: LayerChange) -> str:
    """Return one change in people's terms."""
    unit = SPECS[change.limit].unit
    before, after = (format_limit(one, unit) or "unset" for one in (change.before, change.after))
    return f"{change.layer}: {change.limit} {before} → {after}"
