"""Adopt containers that the portal did not make, and note which devices they use.

Made by `mlc create`, by docker, or by an older DS01. Owner is decided as: label > uid suffix
of the name > devcontainer folder > bind mount whose directory that uid really owns > unknown.
Not in charge of: changing such a container in any way.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

from django.db import IntegrityError, transaction

from ds01portal.engine.base import ContainerDetails, ContainerEngine, ContainerSummary, Observed
from ds01portal.exceptions import MissingOnEngine
from ds01portal.models import Person
from ds01portal.services.events import announce_update, record_event
from workspaces.models import Assignment, Container, Device, ForeignUse
from workspaces.services.observations import STATE_OF, announce
from workspaces.services.specs import LABEL_MANAGED

State, Origin = Container.State, Container.Origin

MLC_NAME = re.compile(r"(?P<name>[a-zA-Z0-9_\-#]+)\._\.(?P<uid>\d+)")
USER_LABELS = ("ds01.user", "aime.mlc.USER", "aime.mlc", "aime.mlc.username")
INFRASTRUCTURE_LABELS = ("ds01.protected", "ds01.monitoring", "aime.mlc.DS01_TEMP")
USING = (Observed.RUNNING, Observed.PAUSED, Observed.RESTARTING)


def origin_of(labels: Mapping[str, str]) -> Container.Origin:
    """Return who made a container, by its labels."""
    if any(key.startswith("aime.mlc") for key in labels):
        return Origin.MLC
    if any(key.startswith("ds01.") for key in labels):
        return Origin.DS01
    return Origin.DOCKER


def is_infrastructure(labels: Mapping[str, str]) -> bool:
    """Tell whether a container is the site's own (monitoring) or the portal's scratch."""
    return any(key in labels for key in INFRASTRUCTURE_LABELS)


class People:
    """All people by the names and numbers a container may mention; two look-ups, no queries."""

    def __init__(self) -> None:
        self.by_uid: dict[int, Person] = {}
        self.by_name: dict[str, Person] = {}
        for person in Person.objects.exclude(uid=None):
            assert person.uid is not None
            self.by_uid[person.uid] = person
            for name in (person.username, person.system_login, person.linux_name):
                if name:
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
        if folder and (owner := people.by_uid.get(_folder_uid(folder))):
            return owner
    return None


def _folder_uid(path: str) -> int:
    try:
        return os.stat(path).st_uid
    except OSError:
        return -1


def adopt_container(
    *, summary: ContainerSummary, details: ContainerDetails, people: People
) -> Container | None:
    """Make a row for a container that has none; return None when somebody was faster."""
    match = MLC_NAME.fullmatch(summary.name)
    framework, _, version = details.labels.get("aime.mlc.FRAMEWORK", "").partition("-")
    owner = find_owner(name=summary.name, details=details, people=people)
    try:
        with transaction.atomic():
            container = Container.objects.create(
                owner=owner,
                name=(match["name"] if match else summary.name)[:128],
                engine_name=summary.name,
                engine_id=summary.id,
                origin=origin_of(details.labels),
                state=STATE_OF.get(details.state, State.STOPPED),
                image_reference=details.image[:300],
                image_engine_id=details.image_id[:80],
                framework=framework,
                version=version,
                devices_requested=len(details.devices) or details.device_count,
                spec={"cpus": details.cpus, "memory": details.memory, "devices": []},
                workspace_path=details.labels.get("aime.mlc.WORK_MOUNT", "")[:500],
                started_at=details.started_at,
                stopped_at=None if details.state in USING else details.finished_at,
                exit_code=None if details.state in USING else details.exit_code,
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


def used_devices(details: ContainerDetails, devices: Iterable[Device]) -> set[str]:
    """Return the UUIDs a container can use: by request, by count, by `all`, by environment.

    A request by number (`--gpus 2`) takes the first ones the runtime sees. An instance of a
    card in use as a whole is covered by the card.
    """
    rows = list(devices)
    cards = [row for row in rows if row.parent_id is None]
    if details.all_devices:
        return {row.uuid for row in rows}
    named = set(details.devices)
    if details.device_count > 0:
        named |= {row.uuid for row in cards[: details.device_count]}
    visible = details.environment.get("NVIDIA_VISIBLE_DEVICES", "")
    if visible == "all" and _may_use_gpus(details):
        return {row.uuid for row in rows}
    if visible not in ("", "void", "none", "all"):
        named |= set(visible.split(","))
    slots = {row.slot.replace(".", ":"): row.uuid for row in rows}
    return {slots.get(name, name) for name in named} & {row.uuid for row in rows}


def _may_use_gpus(details: ContainerDetails) -> bool:
    """Tell whether NVIDIA_VISIBLE_DEVICES=all, which most CUDA images carry, has any effect."""
    host = details.raw.get("HostConfig", {})
    return host.get("Runtime") == "nvidia" or bool(details.devices or details.device_count)


def note_foreign_uses(
    *, seen: Mapping[str, tuple[str, Container | None, set[str]]]
) -> int:
    """Rewrite the foreign-use rows: engine id → (name, row, UUIDs). Return how many changed."""
    wanted = {
        (uuid, engine_id): (name, container)
        for engine_id, (name, container, uuids) in seen.items()
        for uuid in uuids
    }
    with transaction.atomic():
        known = {(row.device_id, row.engine_id): row for row in ForeignUse.objects.all()}
        gone = [row.pk for key, row in known.items() if key not in wanted]
        new = [key for key in wanted if key not in known]
        if gone:
            ForeignUse.objects.filter(pk__in=gone).delete()
        for uuid, engine_id in new:
            name, container = wanted[uuid, engine_id]
            ForeignUse.objects.create(
                device_id=uuid, engine_id=engine_id, engine_name=name, container=container
            )
            _note_clash(uuid, name)
        if gone or new:
            announce_update(subject="machine", owner_id=None)
    return len(gone) + len(new)


def _note_clash(uuid: str, name: str) -> None:
    """Tell the holder of a device that somebody outside uses it too."""
    holder = (
        Assignment.objects.live()
        .filter(device_id=uuid)
        .select_related("container__owner")
        .first()
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


def is_own(summary: ContainerSummary) -> bool:
    """Tell whether the portal made it."""
    return summary.labels.get(LABEL_MANAGED) == "true"
