"""How the catalogue's commands say that something was refused or failed."""

from __future__ import annotations

import json

from django.core.management.base import BaseCommand, CommandError

from ds01portal.exceptions import EngineError, PortalError


def as_command_error(command: BaseCommand, error: PortalError, *, as_json: bool) -> CommandError:
    """Return the error to raise: exit code 1 refused, 2 engine trouble; JSON goes to stdout."""
    if as_json:
        command.stdout.write(json.dumps({"error": error.as_dict()}, indent=2, default=str))
    text = f"{error.message} {error.hint}".strip()
    return CommandError(text, returncode=2 if isinstance(error, EngineError) else 1)
