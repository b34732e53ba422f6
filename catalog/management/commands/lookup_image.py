"""`manage.py lookup_image`: which image a framework, version and architecture mean."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from catalog.architectures import Fit
from catalog.services.lookups import lookup_image
from ds01portal.management.base import PortalCommand


class Command(PortalCommand):
    help = "Print the image for a framework; without a version the newest for the architecture."

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument("framework", help="such as pytorch (torch) or tensorflow (tf)")
        parser.add_argument("--version", default="", help="exact version, such as 2.7.1")
        parser.add_argument("--arch", default="", help="architecture (default: this machine's)")

    def act(self, options: dict[str, Any]) -> None:
        result = lookup_image(
            framework=options["framework"],
            version=options["version"],
            architecture=options["arch"],
        )
        if options["json"]:
            self.write_json(result.as_dict())
            return
        self.say(result.reference)
        if result.is_fallback:
            self.stderr.write("This is the fallback: the catalogue has none for the architecture.")
        if result.judgement.fit in (Fit.CANNOT, Fit.OTHER):
            self.stderr.write(f"Note: {result.judgement.reason}.")
