"""`manage.py run_worker`: carry out what people asked for, watch the engine, keep time."""

from __future__ import annotations

import signal
from typing import Any

from django.core.management.base import CommandParser

from ds01portal.exceptions import EngineUnreachable
from ds01portal.management.base import PortalCommand
from workspaces.services.carrying import carry_out_due, release_dead_workers
from workspaces.services.machine import refresh_machine
from workspaces.services.worker import Worker


class Command(PortalCommand):
    help = "Run the worker until it is told to stop; what is under way is finished first."
    json_help = "with --once: print the number as JSON"

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--once", action="store_true", help="carry out what is due now, then exit"
        )

    def act(self, options: dict[str, Any]) -> None:
        if options["once"]:
            self._run_once(as_json=options["json"])
            return
        worker = Worker()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: worker.stop())
        worker.run()

    def _run_once(self, *, as_json: bool) -> None:
        released = release_dead_workers()
        refresh_machine()
        count = carry_out_due()
        if not refresh_machine().reachable:
            raise EngineUnreachable(
                f"Docker Engine does not answer; {count} operations were looked at.",
                hint="What is asked for stays in the queue and is tried again.",
                carried_out=count,
            )
        if as_json:
            self.write_json({"carried_out": count, "released": released})
        else:
            self.say(f"{count} operation{'' if count == 1 else 's'} carried out.")
