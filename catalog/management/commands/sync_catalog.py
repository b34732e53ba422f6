"""`manage.py sync_catalog`: bring the catalogue in line with a file."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from catalog.services.sync import sync_catalog
from catalog.services.sync_plan import SyncReport
from ds01portal.management.base import PortalCommand


class Command(PortalCommand):
    help = "Add, change and retire catalogue images so that they match a catalogue file."

    json_help = "print the report as JSON"

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--source", default="", help="catalogue file (default: AIME_CATALOG, then the snapshot)"
        )
        parser.add_argument("--dry-run", action="store_true", help="only say what would change")
        parser.add_argument(
            "--allow-shrink", action="store_true", help="retire more than half of the images"
        )

    def act(self, options: dict[str, Any]) -> None:
        report = sync_catalog(
            source=options["source"],
            dry_run=options["dry_run"],
            allow_shrink=options["allow_shrink"],
        )
        if options["json"]:
            self.write_json(report.as_dict())
        else:
            self._print(report, verbose=options["verbosity"] > 1)

    def _print(self, report: SyncReport, *, verbose: bool) -> None:
        intro = "Would change" if report.dry_run else "Read"
        self.say(f"{intro} the catalogue from {report.source}:")
        for word, names in (
            ("added", report.added),
            ("changed", report.changed),
            ("restored", report.restored),
            ("retired", report.retired),
        ):
            self.say(f"  {word:<10}{len(names):>5}")
            for name in names if verbose or word != "added" else ():
                self.say(f"    {name}")
        self.say(f"  {'unchanged':<10}{report.unchanged:>5}")
        self.say(f"  {'bad lines':<10}{len(report.bad):>5}")
        for problem in report.bad:
            self.say(f"    {problem}")
        self.say(
            f"  {report.loaded} rows usable, {report.blank} blank lines, {report.comments} comments"
        )
        if report.cut_off:
            self.say("  The file ends within a line: nothing was retired.")
