"""`manage.py sync_gpus`: bring the device rows in line with the GPU inventory."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from ds01portal.management.base import PortalCommand, run_beside_others
from workspaces.services.devices import sync_devices


class Command(PortalCommand):
    help = "Read the GPUs of this machine: add, change, and mark those that are gone."
    json_help = "print the report as JSON"

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only say what would change")

    def act(self, options: dict[str, Any]) -> None:
        dry_run = options["dry_run"]
        report = run_beside_others(lambda: sync_devices(actor=None, dry_run=dry_run))
        if options["json"]:
            self.write_json({**report.as_dict(), "dry_run": dry_run})
            return
        self.say(f"Inventory: {report.source}. {report.message}".strip())
        words = (("added", report.added), ("changed", report.changed), ("gone", report.vanished))
        for word, uuids in words:
            self.say(f"  {word:<9}{len(uuids):>4}  {', '.join(uuids)}".rstrip())
        for uuid, reason in report.unusable.items():
            self.say(f"  not usable: {uuid}: {reason}")
        if dry_run:
            self.say("Trial run, nothing was changed.")
