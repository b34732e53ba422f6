"""A container's events as a story: who did what, and why."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ds01portal.models import Event, Person
from workspaces.models import Container

LENGTH = 100  # events on the page, newest first

# With an actor: %(who)s is "You", a name, or "The portal".
SENTENCES: dict[str, Promise] = {
    "launch": gettext_lazy("%(who)s asked for the container."),
    "launched": gettext_lazy("It was launched and runs."),
    "launch failed": gettext_lazy("The launch did not succeed; all it had made was undone."),
    "launch cancelled": gettext_lazy("The launch was cancelled; all it had made was undone."),
    "cancel": gettext_lazy("%(who)s cancelled the launch."),
    "start": gettext_lazy("%(who)s asked to start it."),
    "started": gettext_lazy("It was started."),
    "start failed": gettext_lazy("It could not be started."),
    "stop": gettext_lazy("%(who)s asked to stop it."),
    "stopped": gettext_lazy("It was stopped."),
    "stop failed": gettext_lazy("It could not be stopped."),
    "restart": gettext_lazy("%(who)s asked to restart it."),
    "restarted": gettext_lazy("It was restarted."),
    "restart failed": gettext_lazy("It could not be restarted."),
    "pause": gettext_lazy("%(who)s asked to pause it."),
    "paused": gettext_lazy("It was paused; it keeps memory and GPUs."),
    "pause failed": gettext_lazy("It could not be paused."),
    "resume": gettext_lazy("%(who)s asked to let it go on."),
    "resumed": gettext_lazy("It goes on."),
    "resume failed": gettext_lazy("It could not go on."),
    "remove": gettext_lazy("%(who)s asked to remove it."),
    "removed": gettext_lazy("It was removed. The workspace stays."),
    "remove failed": gettext_lazy("It could not be removed."),
    "reserve": gettext_lazy("GPUs were reserved for it."),
    "release": gettext_lazy("Its GPUs were given back."),
    "recreate": gettext_lazy("It was made anew."),
    "adopted": gettext_lazy("The portal found it on the engine and shows it since then."),
    "explained": gettext_lazy("The cause of its stop became clear."),
    "stopped by guard": gettext_lazy("The portal stopped it."),
    "device clash": gettext_lazy("It runs on a GPU that belongs to somebody else."),
    "seen running": gettext_lazy("It was started outside of the portal."),
    "seen paused": gettext_lazy("It was paused outside of the portal."),
    "seen stopped": gettext_lazy("It was found stopped."),
    "seen created": gettext_lazy("It was found made but never started."),
    "seen removed": gettext_lazy("It was found removed."),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Chapter:
    """One event for a reader."""

    time: dt.datetime
    text: str
    reason: str


def tell_story(*, container: Container, viewer: Person) -> list[Chapter]:
    """Return what happened to a container, newest first. One query."""
    events = Event.objects.filter(
        subject_kind="container", subject_id=str(container.pk)
    ).select_related("actor")[:LENGTH]
    return [
        Chapter(time=event.created_at, text=_sentence(event, viewer), reason=event.reason)
        for event in events
    ]


def _sentence(event: Event, viewer: Person) -> str:
    if event.actor is None:
        who = _("The portal")
    elif event.actor == viewer:
        who = _("You")
    else:
        who = event.actor.display_name
    pattern = SENTENCES.get(event.verb)
    if pattern is None:
        return f"{who}: {event.verb}"
    return str(pattern) % {"who": who}
