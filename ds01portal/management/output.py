"""How commands say that something was refused or failed, and how they read files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from ds01portal.exceptions import EngineError, PortalError

MAX_FILE = 4 * 1024**2  # bytes


def as_command_error(command: BaseCommand, error: PortalError, *, as_json: bool) -> CommandError:
    """Return the error to raise: exit code 1 refused, 2 engine trouble; JSON goes to stdout."""
    if as_json:
        write_json(command, {"error": error.as_dict()})
    text = f"{error.message} {error.hint}".strip()
    return CommandError(text, returncode=2 if isinstance(error, EngineError) else 1)


def write_json(command: BaseCommand, data: Any) -> None:
    """Print JSON for scripts."""
    command.stdout.write(json.dumps(data, indent=2, default=str, ensure_ascii=False))


def read_input(path: str) -> bytes:
    """Return the content of a file. Raise CommandError when that cannot be."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from error
    if len(data) > MAX_FILE:
        raise CommandError(f"{path} is larger than {MAX_FILE} bytes.")
    return data
