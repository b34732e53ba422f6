"""Adopt containers that the portal did not make, and note which devices they use.

Made by `mlc create`, by docker, or by an older DS01. Owner is decided as: label > uid suffix
of the name > devcontainer folder > bind mount whose directory that uid really owns > unknown.
A label is believed: whoever may write one has the Docker socket and is root already. What a
container uses counts against the person it names, who sees it and may stop or remove it.
Not in charge of: changing such a container in any way.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from django.db import IntegrityError, transaction

from catalog.services.build_layers import BUILDER_LABEL, STEP_PREFIX
from ds01portal.engine.base import ContainerDetails, ContainerEngine, ContainerSummary, Observed
from ds01portal.exceptions import MissingOnEngine
from ds01portal.models import Person
from ds01portal.services.events import announce_update, record_event
from workspaces.models import Assignment, Container, Device, ForeignUse
from workspaces.services.observations import STATE_OF, announce
from workspaces.services.specs import LABEL_ID

State, Origin = Container.State, Container.Origin

# A uid has at most ten digits (32 bits).
MLC_NAME = re.compile(r"(?P<name>[a-zA-Z0-9_\-#]+)\._\.(?P<uid>[0-9]{1,10})")
USER_LABELS = ("ds01.user", "aime.mlc.USER", "aime.mlc", "aime.mlc.username")
INFRASTRUCTURE_LABELS = ("ds01.protected", "ds01.monitoring", "aime.mlc.DS01_TEMP")
MLC_LABELS = ("aime.mlc", "aime.mlc.USER", "aime.mlc.username")
LONGEST_NAME = 255
MOST_DEVICES = 999
USING = (Observed.RUNNING, Observed.PAUSED, Observed.RESTARTING)


def origin_of(labels: Mapping[str, str]) -> Container.Origin:
    """Return who made a container, by the labels that its tools filter by.

    Other labels of theirs say nothing: they come with an image, too.
    """
    if any(label in labels for label in MLC_LABELS):
        return Origin.MLC
    return Origin.DS01 if "ds01.user" in labels else Origin.DOCKER


def is_infrastructure(labels: Mapping[str, str]) -> bool:
    """Tell whether a container is the site's own (monitoring) or the portal's scratch.

    Such a one is no user's session, and may look at all GPUs without using one.
    """
    marks = [labels[key].lower() for key in INFRASTRUCTURE_LABELS if key in labels]
    return any(mark not in ("false", "no", "0") for mark in marks)


def is_build_step(summary: ContainerSummary) -> bool:
    """Tell whether a container is a step of an image build: by name, as labels come with images."""
    return summary.name.startswith(STEP_PREFIX) and bool(summary.labels.get(BUILDER_LABEL))


class People:
    """All people by the names and numbers a container may mention; two look-ups, no queries.

    Labels are written by tools of the host, so a login of the host counts before the names
    that the portal gave.
    """

    def __init__(self) -> None:
        people = list(Person.objects.exclude(uid=None))
        self.by_uid: dict[int, Person] = {row.uid: row for row in people if row.uid is not None}
        self.by_name: dict[str, Person] = {}
        for field in ("system_login", "linux_name", "username"):
            for person in people:
                if name := getattr(person, field):
                    self.by_name.setdefault(name, person)


def find_owner(*, name: str, details: ContainerDetails, people: People) -> Person | None:
    """Return whose container it is, or None when nothing says so."""
    for label in USER_LABELS:
        if owner := people.by_name.get(details.labels.get(label, "")):
            return owner
    match = MLC_NAME.fullmatch(name)
    if match and (owner := people.by_uid.get(int(match["uid"]))):
        return owner
    folders = [details.labels.get("devcontainer.local_folder", "")]
    folders += [mount.source for mount in details.mounts]
    for folder in folders:
        if owner := people.by_uid.get(_folder_uid(folder)):
            return owner
    return None


def _folder_uid(path: str) -> int:
    """Return who really owns a folder, links followed; -1 when there is none."""
    if not path.startswith("/"):
        return -1
    try:
        return os.stat(path).st_uid
    except (OSError, ValueError):  # ValueError: a NUL byte
        return -1


def describe_container(*, name: str, details: ContainerDetails) -> dict[str, Any]:
    """Return what the engine says of a container, cut to what the fields of a row can hold."""
    labels = details.labels
    match = MLC_NAME.fullmatch(name)
    framework, _, version = labels.get("aime.mlc.FRAMEWORK", "").partition("-")
    devices = len(details.devices) or details.device_count
    return {
        "name": _clean(match["name"] if match else name, 128),
        "origin": origin_of(labels),
        "image_reference": _clean(details.image, 300),
        "image_engine_id": _clean(details.image_id, 80),
        "framework": _clean(framework, 100),
        "version": _clean(version, 100),
        "architecture": _clean(labels.get("aime.mlc.ARCH", "").removeprefix("-"), 40),
        "devices_requested": max(0, min(devices, MOST_DEVICES)),
        "spec": {"cpus": details.cpus, "memory": details.memory, "devices": []},
        "workspace_path": _clean(labels.get("aime.mlc.WORK_MOUNT", "").removeprefix("-"), 500),
    }


def _clean(text: str, length: int) -> str:
    """Return text without NUL, which PostgreSQL cannot store, and no longer than that."""
    return text.replace("\0", "")[:length]


def adopt_container(
    *, summary: ContainerSummary, details: ContainerDetails, people: People
) -> Container | None:
    """Make a row; return None when somebody was faster, or for a name longer than rows hold."""
    if len(summary.name) > LONGEST_NAME:
        return None
    owner = find_owner(name=summary.name, details=details, people=people)
    try:
        with transaction.atomic():
            container = Container.objects.create(
                owner=owner,
                engine_name=summary.name,
                engine_id=summary.id,
                state=STATE_OF.get(details.state, State.STOPPED),
                started_at=details.started_at,
                stopped_at=None if details.state in USING else details.finished_at,
                exit_code=None if details.state in USING else details.exit_code,
                **describe_container(name=summary.name, details=details),
            )
            record_event(
                verb="adopted",
                **container.subject,
                owner=owner,
                after={"state": container.state, "origin": container.origin},
                reason=f"Found on the engine; made by {container.get_origin_display()}.",
            )
    except IntegrityError:
        return None
    announce(container)
    return container


def is_outdated(container: Container, details: ContainerDetails) -> bool:
    """Tell whether an adopted row should be looked at again with `refresh_adopted`.

    `mlc create` makes two containers of one name, the first without a label. And a container
    without an owner may be that of a person who came to the portal later.
    """
    if container.origin == Origin.PORTAL:
        return False
    return container.owner_id is None or bool(_changes(container, details))


def _changes(container: Container, details: ContainerDetails) -> dict[str, Any]:
    fields = describe_container(name=container.engine_name, details=details)
    return {key: value for key, value in fields.items() if getattr(container, key) != value}


def refresh_adopted(*, container: Container, details: ContainerDetails, people: People) -> bool:
    """Bring an adopted row in line with its container; return True when it changed.

    An owner stays as long as the container is the same one.
    """
    changes = _changes(container, details)
    if changes or container.owner_id is None:
        owner = find_owner(name=container.engine_name, details=details, people=people)
        if owner != container.owner:
            changes["owner"] = owner
    if not changes:
        return False
    with transaction.atomic():
        for key, value in changes.items():
            setattr(container, key, value)
        container.save(update_fields=list(changes))
        record_event(
            verb="adopted",
            **container.subject,
            owner=container.owner,
            after={"state": container.state, "origin": container.origin},
            reason=f"Looked at again; made by {container.get_origin_display()}.",
        )
    announce(container)
    return True


def used_devices(details: ContainerDetails, devices: Iterable[Device]) -> set[str]:
    """Return the UUIDs a container can use: by request, by count, by `all`, by environment.

    A request by number (`--gpus 2`) takes the first ones the runtime sees. An instance of a
    card in use as a whole is covered by the card. The environment counts only without a
    request, which overrides it; its `all`, which most CUDA images carry, only under NVIDIA's
    own runtime, where the engine's adapter reports it as a request. A list by name is taken
    at its word under any runtime: rather a device too many than one given out twice.
    """
    rows = list(devices)
    if details.all_devices:
        return {row.uuid for row in rows}
    named = set(details.devices)
    if details.device_count > 0:
        cards = [row for row in rows if row.parent_id is None]
        named |= {row.uuid for row in cards[: details.device_count]}
    if not named:
        visible = details.environment.get("NVIDIA_VISIBLE_DEVICES", "")
        named = {name.strip() for name in visible.split(",")}
    slots = {row.slot.replace(".", ":"): row.uuid for row in rows}
    return {slots.get(name, name) for name in named} & {row.uuid for row in rows}


def note_foreign_uses(*, seen: Mapping[str, tuple[str, Container | None, set[str]]]) -> int:
    """Rewrite the foreign-use rows: engine id → (name, row, UUIDs). Return how many changed."""
    wanted = {
        (uuid, engine_id): (name, container)
        for engine_id, (name, container, uuids) in seen.items()
        for uuid in uuids
    }
    with transaction.atomic():
        known = {(row.device_id, row.engine_id): row for row in ForeignUse.objects.all()}
        gone = [row.pk for key, row in known.items() if key not in wanted]
        new = sorted(key for key in wanted if key not in known)
        if gone:
            ForeignUse.objects.filter(pk__in=gone).delete()
        for uuid, engine_id in new:
            name, container = wanted[uuid, engine_id]
            ForeignUse.objects.create(
                device_id=uuid,
                engine_id=engine_id,
                engine_name=_clean(name, LONGEST_NAME),
                container=container,
            )
            _note_clash(uuid, name)
        if gone or new:
            announce_update(subject="machine", owner_id=None)
    return len(gone) + len(new)


def _note_clash(uuid: str, name: str) -> None:
    """Tell the holder of a device that somebody outside uses it too."""
    holder = (
        Assignment.objects.live().filter(device_id=uuid).select_related("container__owner").first()
    )
    if holder is not None:
        record_event(
            verb="device clash",
            **holder.container.subject,
            owner=holder.container.owner,
            reason=f"{name}, which the portal did not start, uses the same GPU.",
            evidence={"device": uuid, "other": name},
        )


class DetailsCache:
    """What `inspect` said once; devices and mounts of a container never change."""

    def __init__(self) -> None:
        self._known: dict[str, ContainerDetails] = {}

    def get(self, engine: ContainerEngine, engine_id: str) -> ContainerDetails | None:
        """Return the details, asked at most once; None when it is gone meanwhile."""
        if engine_id not in self._known:
            try:
                self._known[engine_id] = engine.inspect_container(engine_id)
            except MissingOnEngine:
                return None
        return self._known[engine_id]

    def keep_only(self, ids: set[str]) -> None:
        """Forget containers that are gone."""
        self._known = {key: value for key, value in self._known.items() if key in ids}


def belongs_to(summary: ContainerSummary, row: Container | None) -> bool:
    """Tell whether the portal made it, as the container of this row.

    The label of a managed container alone says little: an image committed from one carries it
    on, and so does a container of another portal on the same engine.
    """
    return row is not None and summary.labels.get(LABEL_ID) == str(row.pk)
