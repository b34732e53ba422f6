"""`manage.py show_limits`: the limits that count for a person, and where each comes from."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from ds01portal.exceptions import PortalError
from ds01portal.limits import format_limit
from ds01portal.management.output import as_command_error, write_json
from ds01portal.services.people import find_person
from ds01portal.services.quotas import resolve_limits


class Command(BaseCommand):
    help = "Print the limits of a person: value, and the layer that says so."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", help="username, or login on the host")
        parser.add_argument("--json", action="store_true", help="print the limits as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            limits = resolve_limits(person=find_person(username=options["user"]))
        except PortalError as error:
            raise as_command_error(self, error, as_json=options["json"]) from error
        if options["json"]:
            write_json(self, limits.as_dict())
            return
        group = f"group {limits.group}" if limits.group else "no group"
        self.stdout.write(f"{limits.person.username} ({group})")
        for limit in limits.limits.values():
            value = format_limit(limit.value, limit.spec.unit) or "not set: none"
            until = f", until {limit.expires_at:%Y-%m-%d %H:%M}" if limit.expires_at else ""
            source = f"{limit.source or 'no layer'}{until}"
            self.stdout.write(f"{limit.spec.label:<28}{value:>14}   {source}")
