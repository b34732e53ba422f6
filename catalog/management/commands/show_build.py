"""`manage.py show_build`: one build of a custom image: its steps, its log."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import CommandParser

from catalog.management.recipes import (
    add_target,
    build_line,
    describe_build,
    failure_of,
    find_build,
)
from catalog.models import Build
from catalog.services.build_output import read_output
from ds01portal.management.base import PortalCommand

POLL = 0.2  # seconds between two looks at a log that grows


class Command(PortalCommand):
    help = "Print the newest build of an image, or that of a version, for its owner and admins."

    def add_options(self, parser: CommandParser) -> None:
        add_target(parser, "NAME for the newest build, NAME:N for that of a version")
        add = parser.add_argument
        add("--log", action="store_true", help="print what is kept of the log")
        add(
            "--follow",
            action="store_true",
            help="print the log as it comes, until the build has ended; exit 1 if it failed",
        )

    def act(self, options: dict[str, Any]) -> None:
        build = find_build(user=options["user"], name=options["name"])
        as_json, follow = options["json"], options["follow"]
        lines: list[str] = []
        if options["log"] or follow:
            lines = self._read_log(build, follow=follow, quiet=as_json)
            build.refresh_from_db()
        data = describe_build(build)
        if options["log"] or follow:
            data["log"] = "\n".join(lines)
        error = failure_of(build) if follow else None
        if error is not None:
            raise self.refuse(error, as_json=as_json, data={"build": data})
        if as_json:
            self.write_json(data)
            return
        self.say(build_line(build))
        for number, step in enumerate(build.steps, start=1):
            self.say(f"  {number:>2}  {step.get('state', ''):<10}{step.get('title', '')}")

    def _read_log(self, build: Build, *, follow: bool, quiet: bool) -> list[str]:
        """Return the log; without `quiet` print it, as it comes."""
        kept: list[str] = []
        after = 0
        while True:
            # Asked first: what is written before its end is read after it.
            build.refresh_from_db(fields=["state"])
            goes_on = follow and build.is_live
            while pieces := read_output(build=build, after=after):
                after = pieces[-1].pk
                for piece in pieces:
                    kept.append(piece.text)
                    if not quiet:
                        self.say(piece.text)
            if not goes_on:
                return kept
            time.sleep(POLL)
