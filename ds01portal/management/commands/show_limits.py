"""`manage.py show_limits`: the limits that count for a person, and where each comes from."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from ds01portal.limits import format_limit
from ds01portal.management.base import PortalCommand, find_user
from ds01portal.services.quotas import resolve_limits


class Command(PortalCommand):
    help = "Print the limits of a person: value, and the layer that says so."

    json_help = "print the limits as JSON"

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument("user", help="username, login on the host, or uid")

    def act(self, options: dict[str, Any]) -> None:
        limits = resolve_limits(person=find_user(options["user"]))
        if options["json"]:
            self.write_json(limits.as_dict())
            return
        group = f"group {limits.group}" if limits.group else "no group"
        self.say(f"{limits.person.username} ({group})")
        for limit in limits.limits.values():
            value = format_limit(limit.value, limit.spec.unit) or "not set: none"
            until = f", until {limit.expires_at:%Y-%m-%d %H:%M}" if limit.expires_at else ""
            source = f"{limit.source or 'no layer'}{until}"
            self.say(f"{limit.spec.label:<28}{value:>14}   {source}")
