"""From a command line to a launch request, with everything refused at once.

Not in charge of: whether the launch is granted (`services.preflight`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ds01portal.exceptions import FolderRefused, InvalidInput, RefusedError
from ds01portal.limits import Special, Unit, parse_limit
from ds01portal.models import Person
from workspaces.models import SharedFolder
from workspaces.services.findings import Finding
from workspaces.services.launch_images import choose_image
from workspaces.services.preflight import check_launch
from workspaces.services.requests import LaunchRequest

T = TypeVar("T")
MOST_DEVICES = 64  # more than any machine has; larger numbers are slips
NO_IMAGE: dict[str, Any] = {"image": None, "reference": ""}


@dataclass(kw_only=True)
class Wish:
    """A launch request, and by check what of the command line could not be read into it."""

    request: LaunchRequest
    refusals: dict[str, RefusedError] = field(default_factory=dict)

    def findings(self) -> list[Finding]:
        """Return the whole pre-flight list, the command line's own refusals included."""
        found = check_launch(request=self.request)
        return [
            refused_finding(one.check, self.refusals[one.check])
            if one.check in self.refusals
            else one
            for one in found
        ]


def refused_finding(check: str, error: RefusedError) -> Finding:
    """Return the line of the pre-flight list for an error."""
    return Finding(
        check=check, level="refused", message=error.message, hint=error.hint, error=error
    )


def read_wish(person: Person, options: dict[str, Any]) -> Wish:
    """Return the request of a command line. Refusals are gathered, not raised."""
    refusals: dict[str, RefusedError] = {}

    def attempt(check: str, read: Callable[[], T], otherwise: T) -> T:
        try:
            return read()
        except RefusedError as error:
            refusals.setdefault(check, error)
            return otherwise

    request = LaunchRequest(
        owner=person,
        name=options["name"],
        **attempt("image", lambda: read_image(person, options), NO_IMAGE),
        devices=attempt("devices", lambda: read_count(options), 0),
        device_uuids=attempt("devices", lambda: read_uuids(options), ()),
        cpus=attempt("size", lambda: read_amount(options["cpus"], Unit.CORES, "cpus"), None),
        memory=attempt("size", lambda: read_bytes(options["memory"]), None),
        data=attempt("folders", lambda: find_folder(person, "data", options["data"]), None),
        models=attempt("folders", lambda: find_folder(person, "models", options["models"]), None),
        workspace=options["workspace"],
    )
    return Wish(request=request, refusals=refusals)


def read_image(person: Person, options: dict[str, Any]) -> dict[str, Any]:
    """Return the image part of the request."""
    framework, reference = options["framework"], options["image"]
    version, architecture = options["version"], options["arch"]
    if bool(framework) == bool(reference):
        raise InvalidInput(
            "Name either a framework or an image.",
            hint="--framework pytorch [--version V] [--arch A], or --image REFERENCE.",
            field="image",
        )
    if reference:
        if version or architecture:
            raise InvalidInput(
                "--version and --arch go with --framework, not with --image.",
                hint="The reference says which image it is.",
                field="version" if version else "arch",
            )
        return choose_image(person=person, reference=reference)
    return choose_image(
        person=person, framework=framework, version=version, architecture=architecture
    )


def read_count(options: dict[str, Any]) -> int:
    """Return how many devices; without a word about GPUs that is none."""
    text, uuids = options["gpus"], options["device"]
    if options["cpu_only"] and (text or uuids):
        raise InvalidInput(
            "--cpu-only asks for no GPU, and GPUs are asked for too.",
            hint="Leave one of them out.",
            field="devices",
        )
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal()) or int(text[:6]) > MOST_DEVICES:
        raise InvalidInput(
            f"“{text[:20]}” is not a number of GPUs.",
            hint=f"Write a whole number from 0 to {MOST_DEVICES}.",
            field="devices",
            value=text[:20],
        )
    if uuids and int(text) != len(uuids):
        raise InvalidInput(
            f"{text} GPUs are asked for and {len(uuids)} are named.",
            hint="Leave out --gpus: the named devices are counted.",
            field="devices",
        )
    return int(text)


def read_uuids(options: dict[str, Any]) -> tuple[str, ...]:
    """Return the devices named one by one."""
    uuids = tuple(options["device"])
    if len(set(uuids)) != len(uuids):
        raise InvalidInput(
            "The same device is named twice.", hint="Name each device once.", field="devices"
        )
    return () if options["cpu_only"] else uuids


def read_amount(text: str, unit: Unit, name: str) -> float | None:
    """Return a number in base units; None when nothing is asked for."""
    if not text:
        return None
    value = parse_limit(text, unit, field=name)
    if isinstance(value, Special):
        raise InvalidInput(
            f"“{text[:20]}” is not an amount.",
            hint=f"Leave out --{name} to get what your limit allows.",
            field=name,
        )
    return value


def read_bytes(text: str) -> int | None:
    """Return bytes; None when nothing is asked for."""
    value = read_amount(text, Unit.BYTES, "memory")
    return None if value is None else int(value)


def find_folder(person: Person, purpose: str, name: str) -> SharedFolder | None:
    """Return the shared folder of that name that is offered to the person."""
    if not name:
        return None
    offered = SharedFolder.objects.visible_to(person).filter(purpose=purpose)
    folder = offered.filter(name=name).first()
    if folder is None:
        names = ", ".join(offered.values_list("name", flat=True))
        raise FolderRefused(
            f"There is no shared folder “{name[:60]}” for {purpose}.",
            hint=f"Offered: {names}." if names else "None is offered to this person.",
            field=purpose,
            value=name[:60],
        )
    return folder
