"""People and an image to try the portal with, on a development machine.

Nothing that exists is changed. Refused when DEBUG is off: the password is printed. Not in
charge of: making the image.
"""

from __future__ import annotations

import json
import os
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import check_password

from catalog.models import Image
from catalog.services.images import allow_local_image
from ds01portal.exceptions import EngineError, ImageRefused, RefusedError
from ds01portal.models import Person
from ds01portal.services.people import create_person

PEOPLE = {"admin": "admin", "alice": "student", "bob": "researcher"}  # username → group
IMAGE = "ds01/demo-python:1"


@dataclass(frozen=True, kw_only=True, slots=True)
class SignIn:
    """One person; `password_fits` is False for somebody who had a password of their own."""

    username: str
    group: str
    created: bool
    password_fits: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Demo:
    """What there is to try the portal with. `image` is empty while the engine has none."""

    password: str
    sign_ins: tuple[SignIn, ...]
    image: str

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def create_demo(*, actor: Person | None) -> Demo:
    """Create who is missing of an admin and two students; offer the demo image when it is here.

    The password is made once and kept in the state folder. Raise RefusedError in production.
    """
    if not settings.DEBUG:
        raise RefusedError(
            "Demo people are for development: DEBUG is off.",
            hint="Create people with import_users or in the admin pages.",
        )
    password = _read_or_make_password()
    sign_ins = tuple(
        _ensure_person(username, group, password, actor) for username, group in PEOPLE.items()
    )
    return Demo(password=password, sign_ins=sign_ins, image=_offer_image(actor))


def _ensure_person(username: str, group: str, password: str, actor: Person | None) -> SignIn:
    person = Person.objects.filter(username=username).first()
    created = person is None
    if person is None:
        person = create_person(username=username, group=group, password=password, actor=actor)
    return SignIn(
        username=username,
        group=group,
        created=created,
        password_fits=created or check_password(password, person.password),
    )


def _read_or_make_password() -> str:
    path = Path(settings.DS01_STATE_DIR) / "demo.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        draft = path.with_name(f"demo.{os.getpid()}.new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"password": f"demo-{secrets.token_hex(6)}"}, file)
        # Of two that start together one makes the password, and both read it.
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return str(json.loads(path.read_text())["password"])


def _offer_image(actor: Person | None) -> str:
    """Return the demo image when it is offered; an admin's decision about it stands."""
    known = Image.objects.local().filter(reference=IMAGE).first()
    if known is not None:
        return IMAGE if known.is_launchable else ""
    try:
        image = allow_local_image(reference=IMAGE, framework="Demo", version="1", actor=actor)
    except (ImageRefused, EngineError):
        return ""
    return image.reference
