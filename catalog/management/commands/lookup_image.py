"""`manage.py lookup_image`: which image a framework, version and architecture mean."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from catalog.architectures import Fit
from catalog.management.output import as_command_error
from catalog.services.lookups import lookup_image
from ds01portal.exceptions import PortalError


class Command(BaseCommand):
    help = "Print the image for a framework; without a version the newest for the architecture."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        # Django's own --version prints Django's version; here it is the framework's.
        return super().create_parser(prog_name, subcommand, conflict_handler="resolve", **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("framework", help="such as pytorch (torch) or tensorflow (tf)")
        parser.add_argument("--version", default="", help="exact version, such as 2.7.1")
        parser.add_argument("--arch", default="", help="architecture (default: this machine's)")
        parser.add_argument("--json", action="store_true", help="print the answer as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            result = lookup_image(
                framework=options["framework"],
                version=options["version"],
                architecture=options["arch"],
            )
        except PortalError as error:
            raise as_command_error(self, error, as_json=options["json"]) from error
        if options["json"]:
            self.stdout.write(json.dumps(result.as_dict(), indent=2))
            return
        self.stdout.write(result.reference)
        if result.is_fallback:
            self.stderr.write("This is the fallback: the catalogue has none for the architecture.")
        if result.judgement.fit in (Fit.CANNOT, Fit.OTHER):
            self.stderr.write(f"Note: {result.judgement.reason}.")
