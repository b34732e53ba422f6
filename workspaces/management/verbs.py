"""What the commands on one container share: whose, which, waiting for the end, the answer."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from ds01portal.exceptions import EngineTimeout, RefusedError
from ds01portal.management.base import (
    PortalCommand,
    find_user,
    read_timeout,
    stored_error,
    wait_for_operation,
)
from ds01portal.models import Operation
from workspaces.management.describing import (
    describe_container,
    describe_operation,
    device_words,
    devices_of,
)
from workspaces.models import Container
from workspaces.services.containers import VERBS, find_container


class ContainerCommand(PortalCommand):
    """A command that asks for something on one container and may wait for its end."""

    def add_options(self, parser: CommandParser) -> None:
        parser.add_argument("user", help="whose: username, login on the host, or uid")
        parser.add_argument("name", help="name of the container")
        parser.add_argument("--wait", action="store_true", help="wait until it is done or failed")
        parser.add_argument(
            "--timeout", default="", help="longest wait, such as 90 or 5m; then exit 2"
        )

    def finish(
        self, container: Container, operation: Operation | None, options: dict[str, Any]
    ) -> None:
        """Wait if that was asked for, and print what came of it."""
        seconds = read_timeout(options)
        late: EngineTimeout | None = None
        if operation is not None and options["wait"]:
            try:
                operation = wait_for_operation(operation, seconds=seconds)
            except EngineTimeout as timeout:
                late = timeout
        container.refresh_from_db()
        data = {**describe_container(container), "operation": describe_operation(operation)}
        error = late or (failure_of(operation) if operation is not None else None)
        if error is not None:
            raise self.refuse(error, as_json=options["json"], data=data)
        if options["json"]:
            self.write_json(data)
            return
        devices = devices_of([container])[container.pk]
        self.say(f"{container.engine_name}: {container.state}, {device_words(devices)}")
        if operation is not None and operation.kind in ("launch", "start"):
            for note in container.notes:
                self.say(f"  {note}")
        if operation is not None and operation.is_live:
            self.say(f"  The worker carries out: {operation.kind}. --wait waits for the end.")


class VerbCommand(ContainerCommand):
    """A command that is one verb on a container."""

    verb = ""

    def act(self, options: dict[str, Any]) -> None:
        read_timeout(options)
        container = find_container(person=find_user(options["user"]), name=options["name"])
        self.finish(container, VERBS[self.verb](container=container, actor=None), options)


def failure_of(operation: Operation) -> RefusedError | None:
    """Return the error that an operation ended with, in the words it was stored in."""
    if operation.state not in (Operation.State.FAILED, Operation.State.CANCELLED):
        return None
    stored = operation.error or {"code": "cancelled", "message": f"{operation.kind}: cancelled."}
    return stored_error(stored, message=f"The {operation.kind} failed.")
