"""`manage.py prune_images`: free the engine's disk of old and unused custom images."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from catalog.services.image_prune import PruneReport, prune_images
from ds01portal.limits import format_bytes
from ds01portal.management.base import PortalCommand


class Command(PortalCommand):
    help = (
        "Remove old versions of custom images and those that nobody has used for long, after a "
        "notice to their owners, and what was deleted. Never what a container uses. For cron."
    )

    json_help = "print the report as JSON"

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="only say what would go")

    def act(self, options: dict[str, Any]) -> None:
        report = prune_images(dry_run=options["dry_run"])
        if report.error is not None:
            if not options["json"]:
                self._print(report)
            raise self.refuse(report.error, as_json=options["json"], data=report.as_dict())
        if options["json"]:
            self.write_json(report.as_dict())
        else:
            self._print(report)

    def _print(self, report: PruneReport) -> None:
        self.say("Would do:" if report.dry_run else "Done:")
        for word, names in (
            ("old versions removed", report.old),
            ("unused for long, removed", report.unused),
            ("unused for long, owner told", report.noticed),
        ):
            self.say(f"  {word:<29}{len(names):>5}")
            for name in names:
                self.say(f"    {name}")
        self.say(f"  {'kept':<29}{len(report.kept):>5}")
        for name, reason in report.kept.items():
            self.say(f"    {name}: {reason}")
        self.say(f"  bytes of layers that nothing else has: {format_bytes(report.freed_bytes)}")
        if not report.dry_run:
            self.say(f"  tags and layers removed from the engine: {report.swept}")
