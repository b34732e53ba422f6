"""`manage.py reconcile`: compare what the portal knows with what the engine shows."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from ds01portal.management.base import PortalCommand, run_beside_others
from workspaces.services.reconciliation import reconcile_containers


class Command(PortalCommand):
    help = "Bring containers in line with the engine, adopt foreign ones, note used GPUs."
    json_help = "print the report as JSON"

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only say what would change")

    def act(self, options: dict[str, Any]) -> None:
        dry_run = options["dry_run"]
        report = run_beside_others(lambda: reconcile_containers(dry_run=dry_run))
        if options["json"]:
            self.write_json({**report.as_dict(), "dry_run": dry_run})
            return
        self.say(f"{report.rows} rows, {report.on_engine} containers on the engine.")
        for word, names in (
            ("changed", report.changed),
            ("adopted", report.adopted),
            ("gone", report.gone),
            ("stopped", report.stopped),
        ):
            self.say(f"  {word:<9}{len(names):>4}  {', '.join(names)}".rstrip())
        if dry_run:
            self.say("Trial run, nothing was changed.")
