"""`manage.py sync_catalog`: bring the catalogue in line with a file."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from catalog.management.output import as_command_error
from catalog.services.sync import sync_catalog
from catalog.services.sync_plan import SyncReport
from ds01portal.exceptions import PortalError


class Command(BaseCommand):
    help = "Add, change and retire catalogue images so that they match a catalogue file."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--source", default="", help="catalogue file (default: AIME_CATALOG, then the snapshot)"
        )
        parser.add_argument("--dry-run", action="store_true", help="only say what would change")
        parser.add_argument(
            "--allow-shrink", action="store_true", help="retire more than half of the images"
        )
        parser.add_argument("--json", action="store_true", help="print the report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            report = sync_catalog(
                source=options["source"],
                dry_run=options["dry_run"],
                allow_shrink=options["allow_shrink"],
            )
        except PortalError as error:
            raise as_command_error(self, error, as_json=options["json"]) from error
        if options["json"]:
            self.stdout.write(json.dumps(report.as_dict(), indent=2))
        else:
            self._print(report, verbose=options["verbosity"] > 1)

    def _print(self, report: SyncReport, *, verbose: bool) -> None:
        intro = "Would change" if report.dry_run else "Read"
        self.stdout.write(f"{intro} the catalogue from {report.source}:")
        for word, names in (
            ("added", report.added),
            ("changed", report.changed),
            ("restored", report.restored),
            ("retired", report.retired),
        ):
            self.stdout.write(f"  {word:<10}{len(names):>5}")
            for name in names if verbose or word != "added" else ():
                self.stdout.write(f"    {name}")
        self.stdout.write(f"  {'unchanged':<10}{report.unchanged:>5}")
        self.stdout.write(f"  {'bad lines':<10}{len(report.bad):>5}")
        for problem in report.bad:
            self.stdout.write(f"    {problem}")
        self.stdout.write(
            f"  {report.loaded} rows usable, {report.blank} blank lines, {report.comments} comments"
        )
        if report.cut_off:
            self.stdout.write("  The file ends within a line: nothing was retired.")
