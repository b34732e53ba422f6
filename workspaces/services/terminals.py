"""Open a shell in a running container for a person, and say why one ended.

A shell runs as the container's owner, whoever looks: it never is more than its owner is. An
admin who opens one in somebody else's container leaves an event that the owner reads. Not in
charge of: the bytes, and the browser's side (`workspaces.consumers`).
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from ds01portal.engine import get_engine
from ds01portal.engine.base import Observed, TerminalSession
from ds01portal.exceptions import (
    EngineConflict,
    EngineError,
    IllegalTransition,
    MissingOnEngine,
    NotFound,
    QuotaExceeded,
    RefusedError,
)
from ds01portal.models import Person
from ds01portal.services.events import record_event
from workspaces.models import Container
from workspaces.services.identities import home_inside

MAX_TERMINALS = 20  # for each person, in each web process
MAX_COLUMNS, MAX_ROWS = 1000, 500
# Not a login shell: /etc/profile would take the image's PATH, and with it CUDA, away. `mlc open`
# runs the same. A container made elsewhere may have neither a bash nor a /workspace.
SHELL = (
    "/bin/sh",
    "-c",
    "cd /workspace 2>/dev/null || cd 2>/dev/null; "
    "command -v bash >/dev/null 2>&1 && exec bash; exec sh",
)

_seats_lock = threading.Lock()
_seats: Counter[int] = Counter()


@contextmanager
def terminal_seat(*, person: Person) -> Iterator[None]:
    """Hold one of a person's terminals in this process; raise QuotaExceeded when all are taken."""
    with _seats_lock:
        if _seats[person.pk] >= MAX_TERMINALS:
            raise QuotaExceeded(
                f"You have {MAX_TERMINALS} terminals open already.",
                hint="Close one of them, also in other tabs and windows.",
                resource="terminals",
                limit=MAX_TERMINALS,
                used=_seats[person.pk],
                requested=1,
            )
        _seats[person.pk] += 1
    try:
        yield
    finally:
        with _seats_lock:
            _seats[person.pk] -= 1


def find_for_terminal(*, person: Person, container_id: UUID) -> Container:
    """Return a container a person may open a shell in.

    Raise NotFound, also for strangers, and IllegalTransition unless it runs.
    """
    rows = Container.objects.live().visible_to(person).select_related("owner")
    container = rows.filter(pk=container_id).first() if person.is_active else None
    if container is None:
        raise NotFound("There is no such container.", hint="It may have been removed.")
    if container.state != Container.State.RUNNING:
        raise IllegalTransition(
            f"{container.name} is {container.get_state_display().lower()}; "
            "a terminal needs it running.",
            hint="Resume it first."
            if container.state == Container.State.PAUSED
            else "Wait a moment, then try again."
            if container.is_busy
            else "Start it first.",
            state=container.state,
            verb="open terminal",
        )
    return container


def may_keep_terminal(*, person: Person, container_id: UUID) -> bool:
    """Tell whether a person may still use a terminal that is open."""
    rows = Container.objects.live().visible_to(person).filter(pk=container_id)
    return person.is_active and rows.exists()


def open_terminal(
    *, container: Container, actor: Person, columns: int, rows: int
) -> TerminalSession:
    """Start a shell as the container's owner; return its bytes.

    Raise RefusedError when nobody owns the container, EngineError when Docker could not.
    """
    owner = container.owner
    if owner is None or owner.uid is None or owner.gid is None:
        raise RefusedError(
            f"Nobody is known to own {container.name}, so there is nobody to run a shell as.",
            hint="Give it an owner first, or use docker exec on the machine.",
        )
    try:
        session = get_engine().open_terminal(
            container.engine_id or container.engine_name,
            SHELL,
            user=f"{owner.uid}:{owner.gid}",
            # The only folder that every container has; the shell goes on to /workspace.
            working_dir="/",
            environment=terminal_environment(container, owner),
            columns=min(max(columns, 1), MAX_COLUMNS),
            rows=min(max(rows, 1), MAX_ROWS),
        )
    except (EngineConflict, MissingOnEngine) as error:
        # It stopped a moment ago, and its row does not say so yet.
        if reason := explain_end(container=container):
            raise IllegalTransition(
                reason, hint="Start it first.", state=container.state, verb="open terminal"
            ) from error
        raise
    if actor != owner:
        record_event(
            verb="terminal opened by admin",
            **container.subject,
            owner=owner,
            actor=actor,
            reason=f"{actor.display_name} opened a terminal in this container.",
        )
    return session


def terminal_environment(container: Container, owner: Person) -> dict[str, str]:
    """Return what the shell gets beside the container's own variables."""
    environment = {
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "USER": owner.login,
        "LOGNAME": owner.login,
    }
    if container.origin == Container.Origin.PORTAL:
        # Elsewhere the engine takes the home from the container's own list of users.
        name = str(owner.linux_name)
        environment |= {"HOME": home_inside(owner), "USER": name, "LOGNAME": name}
    return environment


def explain_end(*, container: Container) -> str:
    """Return why a shell ended, in a sentence; empty when it ended by itself."""
    try:
        details = get_engine().inspect_container(container.engine_id or container.engine_name)
    except MissingOnEngine:
        return f"{container.name} was removed."
    except EngineError as error:
        return str(error.message)
    if details.state is Observed.RUNNING:
        return ""
    return f"{container.name} was stopped."
