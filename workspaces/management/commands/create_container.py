"""`manage.py create_container`: launch a container for a person."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from ds01portal.management.base import find_user, read_timeout
from workspaces.management.describing import latest_operation
from workspaces.management.launching import Wish, read_wish
from workspaces.management.verbs import ContainerCommand
from workspaces.services.containers import launch_container


class Command(ContainerCommand):
    help = "Launch a container for a person; without --gpus or --device it gets no GPU."

    def add_options(self, parser: CommandParser) -> None:
        super().add_options(parser)
        add = parser.add_argument
        add("--framework", default="", help="such as pytorch or tensorflow, from the catalogue")
        add("--version", default="", help="exact version (default: the newest that fits)")
        add("--arch", default="", help="architecture (default: this machine's)")
        add("--image", default="", help="an image by its reference, in place of --framework")
        add("--gpus", default="", metavar="N", help="how many GPUs (default: 0)")
        add("--cpu-only", action="store_true", help="say that no GPU is wanted")
        add(
            "--device",
            action="extend",
            nargs="+",
            default=[],
            metavar="UUID",
            help="exactly these GPUs",
        )
        add("--cpus", default="", metavar="N", help="cores (default: what the limit allows)")
        add("--memory", default="", metavar="SIZE", help="such as 16g (default: the limit)")
        add("--data", default="", metavar="NAME", help="shared folder mounted at /data")
        add("--models", default="", metavar="NAME", help="shared folder mounted at /models")
        add("--workspace", default="", metavar="SUB", help="folder below the person's workspace")
        add("--dry-run", action="store_true", help="print all findings, make nothing")

    def act(self, options: dict[str, Any]) -> None:
        read_timeout(options)
        wish = read_wish(find_user(options["user"]), options)
        if options["dry_run"]:
            self._report(wish, as_json=options["json"])
            return
        for error in wish.refusals.values():
            raise error
        if not wish.request.device_count and not options["cpu_only"] and not options["json"]:
            self.say("No GPU was asked for: CPU only (--gpus N asks for some).")
        container = launch_container(request=wish.request, actor=None)
        self.finish(container, latest_operation(container), options)

    def _report(self, wish: Wish, *, as_json: bool) -> None:
        findings = wish.findings()
        data = {"findings": [finding.as_dict() for finding in findings]}
        refused = [finding.error for finding in findings if finding.error is not None]
        if not as_json:
            for finding in findings:
                text = f"{finding.message} {finding.hint}".strip()
                self.say(f"{finding.level:<8} {finding.check:<11} {text}")
        if refused:
            raise self.refuse(refused[0], as_json=as_json, data={"allowed": False, **data})
        if as_json:
            self.write_json({"allowed": True, **data, "error": None})
        else:
            self.say("The launch would be accepted. Nothing was made.")
