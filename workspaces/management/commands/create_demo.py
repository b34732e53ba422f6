"""`manage.py create_demo`: people to try the portal with, on a development machine."""

from __future__ import annotations

from typing import Any

from ds01portal.management.base import PortalCommand
from workspaces.services.demo import create_demo


class Command(PortalCommand):
    help = "Create demo people (DEBUG only) and print their sign-ins; overwrites nothing."

    def act(self, options: dict[str, Any]) -> None:
        demo = create_demo(actor=None)
        if options["json"]:
            self.write_json(demo.as_dict())
            return
        self.say(f"Sign-ins (password {demo.password}):")
        for sign_in in demo.sign_ins:
            note = "" if sign_in.password_fits else "  (has a password of their own)"
            self.say(f"  {sign_in.username:<8} {sign_in.group}{note}")
        if demo.image:
            self.say(f"Image: {demo.image}")
