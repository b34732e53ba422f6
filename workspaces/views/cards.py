"""Containers as cards: state, image, devices, what is under way, what may be done.

Three queries for any number of containers, one more when custom images are among theirs. Not in
charge of: which containers (the views start from `visible_to`), or what a verb does.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from catalog.models import Image
from ds01portal.models import Operation, Person
from workspaces.models import Assignment, Container, Device, ForeignUse
from workspaces.views.tiles import describe_devices

State = Container.State
# Phases of a launch as the worker names them → the step that a person sees.
STEP_OF = {"": 1, "find": 1, "pull": 1, "prepare": 2, "create": 2, "start": 3, "verify": 3}
FIRST_GUESS = dt.timedelta(seconds=3)  # an estimate before that would be noise


@dataclass(kw_only=True, slots=True)
class Card:
    """One container as `viewer` sees it. `devices` are those it holds, or uses unasked."""

    container: Container
    viewer: Person
    devices: list[Device] = field(default_factory=list)
    operation: Operation | None = None
    hold_until: dt.datetime | None = None
    newer: Image | None = None  # version of its image that was built since

    @property
    def key(self) -> str:
        """Id as text, for ids of elements and for copying."""
        return str(self.container.pk)

    @property
    def back(self) -> list[dict[str, str]]:
        """Hidden field that leads a dialog of the container's page back there."""
        return [{"name": "next", "value": self.container.get_absolute_url()}]

    @property
    def home(self) -> list[dict[str, str]]:
        """Hidden field that leads a dialog of the front page back there."""
        return [{"name": "next", "value": reverse("container-list")}]

    @property
    def pill(self) -> str:
        """Word for the colour of the state."""
        return "starting" if self.container.state == State.LAUNCHING else self.container.state

    @property
    def is_mine(self) -> bool:
        """Whether the viewer owns it."""
        return self.container.owner_id == self.viewer.pk

    @property
    def owner_name(self) -> str:
        """Name of the owner."""
        owner = self.container.owner
        return owner.display_name if owner else _("nobody known")

    @property
    def verbs(self) -> tuple[str, ...]:
        """Verbs that the state allows."""
        return self.container.offered_verbs()

    @property
    def can_cancel(self) -> bool:
        """Whether a launch is under way that has not been cancelled yet."""
        operation = self.operation
        if operation is None or operation.kind != "launch":
            return False
        return not operation.cancel_requested and operation.phase != "undo"

    @property
    def has_menu(self) -> bool:
        """Whether there is more to do than the buttons show."""
        return self.container.state in (State.RUNNING, State.PAUSED)

    @property
    def device_text(self) -> str:
        """Devices in words."""
        if self.devices:
            return describe_devices(self.devices)
        return _("no GPU")

    @property
    def image_text(self) -> str:
        """Image in words: the reference where it has no framework of its own."""
        container = self.container
        return str(container.image) if container.image else container.image_label

    @property
    def is_launching(self) -> bool:
        """Whether the steps of a launch are to be shown."""
        return self.container.state == State.LAUNCHING

    @property
    def is_cancelling(self) -> bool:
        """Whether a launch is being undone."""
        operation = self.operation
        return operation is not None and (operation.cancel_requested or operation.phase == "undo")

    @property
    def phases(self) -> list[dict[str, Any]]:
        """Steps of the launch under way."""
        return launch_phases(self.container, self.operation)

    @property
    def ready_at(self) -> dt.datetime | None:
        """When the pull is likely to be done, from how far it came in how long."""
        operation = self.operation
        if operation is None or operation.phase != "pull" or not operation.started_at:
            return None
        spent = timezone.now() - operation.started_at
        if not operation.percent or operation.percent >= 100 or spent < FIRST_GUESS:
            return None
        return timezone.now() + spent * (100 - operation.percent) / operation.percent

    @property
    def trouble(self) -> dict[str, str]:
        """What the error box of a failed launch says."""
        return explain_error(self.container.error)


def load_cards(*, containers: Sequence[Container], viewer: Person) -> list[Card]:
    """Return cards in the same order."""
    cards = {row.pk: Card(container=row, viewer=viewer) for row in containers}
    if not cards:
        return []
    held = Assignment.objects.live().filter(container__in=cards).select_related("device")
    for assignment in held:
        card = cards[assignment.container_id]
        card.devices.append(assignment.device)
        card.hold_until = assignment.hold_until or card.hold_until
    used: dict[Any, list[Device]] = defaultdict(list)
    for use in ForeignUse.objects.filter(container__in=cards).select_related("device"):
        used[use.container_id].append(use.device)
    live = Operation.objects.live().filter(
        subject_kind="container", subject_id__in=[str(pk) for pk in cards]
    )
    for operation in live:
        cards[uuid.UUID(operation.subject_id)].operation = operation
    for pk, card in cards.items():
        card.devices = card.devices or used[pk]
        card.devices.sort(key=lambda device: device.order)
    _add_newer(list(cards.values()), viewer)
    return list(cards.values())


def _add_newer(cards: list[Card], viewer: Person) -> None:
    """Note where a newer version of a container's image was built, if the viewer may know of it."""
    images = {card.container.pk: card.container.image for card in cards}
    recipes = {image.recipe_id for image in images.values() if image and image.recipe_id}
    if not recipes:
        return
    rows = Image.objects.visible_to(viewer).custom().active().filter(recipe__in=recipes)
    # Ascending, so that the newest of each is what stays.
    newest = {row.recipe_id: row for row in rows.order_by("number")}
    for card in cards:
        image = images[card.container.pk]
        found = newest.get(image.recipe_id) if image and image.recipe_id else None
        if image and found and (found.number or 0) > (image.number or 0):
            card.newer = found


def launch_phases(container: Container, operation: Operation | None) -> list[dict[str, Any]]:
    """Return the four steps of a launch for the phase_steps component."""
    reserved = _("GPUs reserved") if container.devices_requested else _("Accepted")
    labels = (reserved, _("Getting the image"), _("Creating"), _("Starting"))
    phase = operation.phase if operation else ""
    now = STEP_OF.get(phase, 1)
    waiting = operation is not None and operation.state == Operation.State.QUEUED
    steps: list[dict[str, Any]] = []
    for index, label in enumerate(labels):
        status = "done" if index < now else "now" if index == now else "todo"
        step: dict[str, Any] = {"label": label, "status": status}
        if status == "now" and operation is not None:
            step["detail"] = operation.message or (_("waiting for the worker") if waiting else "")
            step["percent"] = operation.percent
        steps.append(step)
    return steps


def explain_error(error: dict[str, Any]) -> dict[str, str]:
    """Return what happened, whose turn it is, what to do, and the cause for support."""
    family = error.get("family", "engine")
    turn = "admin" if family == "engine" else "you"
    advice = {
        "user": _("Change what you asked for and launch again."),
        "quota": _("Ask for less, or stop something first."),
        "image": _("Choose another version, or try again later."),
        "timeout": _("Try again; tell an admin if it happens twice."),
        "out_of_memory": _("Launch again with more memory, or use less."),
    }
    cause = "\n".join(filter(None, [str(error.get("code", "")), str(error.get("cause", ""))]))
    return {
        "title": str(error.get("message") or _("The launch did not succeed.")),
        "turn": turn,
        "hint": str(error.get("hint") or advice.get(family) or _("Show an admin the cause below.")),
        "technical": cause,
    }
