"""What all commands share: never prompt; exit 0 done, 1 refused, 2 engine trouble; `--json`.

A command parses, calls one service and prints. Not in charge of: deciding anything.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import IntegrityError
from django.utils import timezone

from ds01portal.exceptions import (
    EngineError,
    EngineTimeout,
    InvalidInput,
    NotFound,
    PortalError,
    RefusedError,
)
from ds01portal.limits import Special, Unit, parse_limit
from ds01portal.models import Operation, Person
from ds01portal.services.people import find_person

__all__ = [
    "PortalCommand",
    "find_user",
    "read_input",
    "read_timeout",
    "run_beside_others",
    "stored_error",
    "wait_for_operation",
]

T = TypeVar("T")

REFUSED, TROUBLE = 1, 2  # exit codes
TROUBLED_FAMILIES = ("engine", "timeout")
WAIT_POLL = 0.1  # seconds between two looks at an operation
DEADLINE_MARGIN = 30.0  # seconds past an operation's deadline, for its undo
MAX_FILE = 4 * 1024**2  # bytes
LARGEST_UID = 2**32 - 2


class PortalCommand(BaseCommand):
    """A command with `--json`. Subclasses have `add_options` and `act`."""

    json_help = "print the answer as JSON"

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        # Some commands have a --version of their own, where Django's prints Django's version.
        kwargs.setdefault("conflict_handler", "resolve")
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        # Wrong usage raises CommandError: argparse itself exits with 2, which is engine trouble.
        parser.called_from_command_line = False
        return parser

    def run_from_argv(self, argv: list[str]) -> None:
        try:
            super().run_from_argv(argv)
        except CommandError as error:
            if "--traceback" in argv:
                raise
            self._explain_usage(error, as_json="--json" in argv)
            sys.exit(error.returncode)

    def _explain_usage(self, error: CommandError, *, as_json: bool) -> None:
        text = str(error).removeprefix("Error: ")
        if as_json:
            wrong = InvalidInput(text, hint="--help shows how it is used.", field="usage")
            self.write_json({"error": wrong.as_dict()})
        self.stderr.write(f"CommandError: {text}")

    def add_arguments(self, parser: CommandParser) -> None:
        self.add_options(parser)
        parser.add_argument("--json", action="store_true", help=self.json_help)

    def add_options(self, parser: CommandParser) -> None:
        """Add the command's own arguments."""

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self.act(options)
        except PortalError as error:
            raise self.refuse(error, as_json=options["json"]) from error

    def act(self, options: dict[str, Any]) -> None:
        """Do it. PortalErrors become exit codes."""
        raise NotImplementedError

    def refuse(
        self, error: PortalError, *, as_json: bool, data: dict[str, Any] | None = None
    ) -> CommandError:
        """Return the error to raise; with `--json` print it, as part of `data` when given."""
        if as_json:
            self.write_json({**(data or {}), "error": error.as_dict()})
        return CommandError(
            f"{error.message} {error.hint}".strip(), returncode=exit_code(error.as_dict(), error)
        )

    def write_json(self, data: Any) -> None:
        """Print JSON for scripts."""
        self.stdout.write(json.dumps(data, indent=2, default=str, ensure_ascii=False))

    def say(self, text: str) -> None:
        """Print a line for people."""
        self.stdout.write(text)


def exit_code(error: dict[str, Any], source: PortalError | None = None) -> int:
    """Return 2 for trouble with the engine, 1 for everything that was refused or failed."""
    troubled = isinstance(source, EngineError) or error.get("family") in TROUBLED_FAMILIES
    return TROUBLE if troubled else REFUSED


def find_user(text: str) -> Person:
    """Return the person with this username, host login or uid. Raise NotFound."""
    try:
        return find_person(username=text)
    except NotFound as error:
        if text.isascii() and text.isdecimal() and len(text) <= len(str(LARGEST_UID)):
            person = Person.objects.filter(uid=int(text)).first()
            if person is not None:
                return person
        raise NotFound(
            f"There is no person “{text[:60]}”.",
            hint="Name a username, a login on the host, or a uid; "
            "import_users and the admin pages make people.",
            field="user",
            value=text[:60],
        ) from error


def wait_for_operation(operation: Operation, *, seconds: float | None = None) -> Operation:
    """Return the operation when it has ended, whoever carries it out.

    Without `seconds` wait until shortly after its own deadline. Raise EngineTimeout when it is
    under way still; nothing is cancelled by that.
    """
    left = (operation.deadline_at - timezone.now()).total_seconds() + DEADLINE_MARGIN
    until = time.monotonic() + (left if seconds is None else seconds)
    while True:
        operation.refresh_from_db()
        if not operation.is_live:
            return operation
        if time.monotonic() >= until:
            raise EngineTimeout(
                f"The {operation.kind} of {operation.subject_label} has not ended in time; "
                f"it is {operation.get_state_display()}"
                + (f" ({operation.message})." if operation.message else "."),
                hint="It goes on. Look with show_container, and whether a worker is running.",
                operation=operation.kind,
                state=operation.state,
                phase=operation.phase,
            )
        time.sleep(WAIT_POLL)


def read_timeout(options: dict[str, Any]) -> float | None:
    """Return the seconds that --wait waits; None is until the operation's own deadline."""
    text = options["timeout"]
    if not text:
        return None
    if not options["wait"]:
        raise InvalidInput(
            "--timeout says how long --wait waits.", hint="Add --wait.", field="timeout"
        )
    value = parse_limit(text, Unit.SECONDS, field="timeout")
    return None if isinstance(value, Special) else float(value)


def stored_error(stored: dict[str, Any], *, message: str, code: str = "") -> RefusedError:
    """Return an error in the words that a row keeps of it, or in these where it has none."""
    error = RefusedError(
        stored.get("message") or message, hint=stored.get("hint", ""), **stored.get("fields", {})
    )
    error.code = stored.get("code") or code or error.code
    error.family = stored.get("family", error.family)
    return error


def run_beside_others(act: Callable[[], T]) -> T:
    """Return what `act` returns; run it once more when a twin of the command was faster.

    Cron may start a command while an earlier run, or the worker's own, is under way: both find
    the same new thing, and the database lets one of them write it.
    """
    try:
        return act()
    except IntegrityError:
        return act()


def read_input(path: str) -> bytes:
    """Return the content of a file. Raise InvalidInput when that cannot be."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.", field="file") from error
    if len(data) > MAX_FILE:
        raise InvalidInput(f"{path} is larger than {MAX_FILE} bytes.", field="file")
    return data
