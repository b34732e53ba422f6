"""`manage.py import_limits`: set quotas from a `resource-limits.yaml` of DS01."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.core.management.base import CommandParser

from ds01portal.limits import format_limit
from ds01portal.management.base import PortalCommand, read_input
from ds01portal.services.effective_limits import SPECS
from ds01portal.services.limits_import import LayerChange, LimitsReport, import_limits


class Command(PortalCommand):
    help = "Set quotas from a limits file of DS01, and say what was done with every key."

    json_help = "print the report as JSON"

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument("file", help="YAML with defaults, groups and user_overrides")
        parser.add_argument("--dry-run", action="store_true", help="say what would be done")

    def act(self, options: dict[str, Any]) -> None:
        report = import_limits(text=read_input(options["file"]), dry_run=options["dry_run"])
        if options["json"]:
            self.write_json(report.as_dict())
            return
        self._print(report)

    def _print(self, report: LimitsReport) -> None:
        for note in report.notes:
            self.say(f"line {note.line:>4}  {note.fate.value:<7}  {note.path}: {note.detail}")
        for change in report.changes:
            self.say(f"change  {describe_change(change)}")
        for name in report.new_groups:
            self.say(f"new group  {name}")
        for warning in report.warnings:
            self.say(f"warning  {warning}")
        counts = Counter(note.fate.value for note in report.notes)
        keys = ", ".join(f"{count} {fate}" for fate, count in counts.items())
        done = "Done" if report.applied else "Trial run, nothing was changed"
        self.say(f"{done}: {keys}; {len(report.changes)} limits differ from before.")


def describe_change(change: LayerChange) -> str:
    """Return one change in people's terms."""
    unit = SPECS[change.limit].unit
    before, after = (format_limit(one, unit) or "unset" for one in (change.before, change.after))
    return f"{change.layer}: {change.limit} {before} → {after}"
