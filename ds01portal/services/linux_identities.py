"""Linux identities of people: found in the system's user database, or allocated.

NSS (files, LDAP or SSSD) counts when it knows exactly this login; else the uid comes from
DS01_UID_RANGE. A person keeps an identity for good: files belong to numbers. Not in charge of:
which names and numbers are safe (ds01portal.identities), and homes on disk.
"""

from __future__ import annotations

import grp
import pwd
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction

from ds01portal.exceptions import InvalidInput, RefusedError
from ds01portal.identities import check_user_id, make_linux_name, make_name_base, parse_uid_range
from ds01portal.models import Event, Person
from ds01portal.services.events import record_event

ALLOCATION_TRIES = 25


def ensure_identity(
    *,
    person: Person,
    uid: int | None = None,
    gid: int | None = None,
    actor: Person | None = None,
) -> Person:
    """Fill in what is missing of uid, gid, Linux name, host login and home; keep what is there.

    `uid` and `gid` are wishes for somebody whom the system does not know. Raise InvalidInput
    for numbers that are the system's or somebody else's, RefusedError when the range is full.
    """
    if person.uid is not None and person.gid is not None and person.linux_name:
        _check_wish(person, person.uid, uid, "uid")
        _check_wish(person, person.gid, gid, "gid")
        return person
    entry = find_system_entry(person.username)
    for _try in range(ALLOCATION_TRIES):
        values = _choose_identity(person, entry, uid, gid)
        try:
            with transaction.atomic():
                Person.objects.filter(pk=person.pk).update(**values)
                record_person_event(verb="identify", person=person, actor=actor, after=values)
        except IntegrityError:
            continue  # another process was quicker: choose again
        for name, value in values.items():
            setattr(person, name, value)
        return person
    raise RefusedError(
        f"No Linux identity could be given to {person.username}.", hint="Try again in a moment."
    )


def find_system_entry(login: str) -> pwd.struct_passwd | None:
    """Return what the system knows of exactly this login. Raise InvalidInput for system users."""
    try:
        entry = pwd.getpwnam(login)
    except (KeyError, ValueError):  # ValueError: characters that no login has
        return None
    check_user_id(entry.pw_uid, field="uid", whose=login)
    if entry.pw_gid == 0:
        raise InvalidInput(
            f"{login}: the main group on the host is root's.",
            hint="Give this login another main group on the host.",
            field="gid",
        )
    return entry


def _choose_identity(
    person: Person, entry: pwd.struct_passwd | None, uid: int | None, gid: int | None
) -> dict[str, Any]:
    wish = person.uid if person.uid is not None else uid
    if entry is not None:
        chosen, group = _first(person.uid, entry.pw_uid), _first(person.gid, entry.pw_gid)
        _check_wish(person, entry.pw_uid, person.uid, "uid")
        _check_wish(person, entry.pw_uid, uid, "uid")
        _check_wish(person, entry.pw_gid, gid, "gid")
    else:
        chosen = _find_free_uid() if wish is None else wish
        group = _first(person.gid, gid, chosen)
        check_user_id(group, field="gid", whose=person.username)
    check_user_id(chosen, field="uid", whose=person.username)
    if (
        entry is not None or person.uid is not None or uid is not None
    ):  # an allocated one is free, or was a moment ago
        _check_uid_is_free(person, chosen, entry)
    login = entry.pw_name if entry else ""
    return {
        "uid": chosen,
        "gid": group,
        "linux_name": person.linux_name or _find_free_name(person, login),
        "system_login": person.system_login or login,
        "home": person.home or (entry.pw_dir if entry else ""),
    }


def _first(*numbers: int | None) -> int:
    """Return the first number that is there; zero is a number."""
    return next(number for number in numbers if number is not None)


def _check_wish(person: Person, actual: int, wish: int | None, field: str) -> None:
    if wish is not None and wish != actual:
        raise InvalidInput(
            f"{person.username} has the {field} {actual} already, not {wish}.",
            hint=f"Leave the {field} empty.",
            field=field,
        )


def _check_uid_is_free(person: Person, uid: int, entry: pwd.struct_passwd | None) -> None:
    other = Person.objects.filter(uid=uid).exclude(pk=person.pk).first()
    name = other.username if other else "" if entry else _name_on_host(uid)
    if name:
        raise InvalidInput(
            f"{person.username}: the uid {uid} is {name}'s already.",
            hint="Choose another, or leave it empty.",
            field="uid",
        )


def _name_on_host(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def _find_free_uid() -> int:
    """Return a uid that nobody has or ever had here: old files must not change hands."""
    numbers = parse_uid_range(settings.DS01_UID_RANGE)
    bounds = {"uid__gte": numbers[0], "uid__lte": numbers[-1]}
    used = set(Person.objects.filter(**bounds).values_list("uid", flat=True))
    history = Event.objects.filter(subject_kind="person", verb="identify")
    used.update(history.values_list("after__uid", flat=True))
    for uid in numbers:
        if uid not in used and not _name_on_host(uid) and not _group_on_host(uid):
            return uid
    raise RefusedError(
        f"All user ids of DS01_UID_RANGE={settings.DS01_UID_RANGE} are used.",
        hint="Widen the range in the settings.",
        field="uid",
    )


def _group_on_host(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return ""


def _find_free_name(person: Person, login: str) -> str:
    base = make_name_base(login or person.username)
    near = Person.objects.filter(linux_name__startswith=base[:20]).exclude(pk=person.pk)
    taken = {name for name in near.values_list("linux_name", flat=True) if name}
    return make_linux_name(login or person.username, taken=taken)


def record_person_event(*, verb: str, person: Person, actor: Person | None, **values: Any) -> None:
    """Append an event about a person, who is its owner too."""
    record_event(
        verb=verb,
        subject_kind="person",
        subject_id=str(person.pk),
        subject_label=person.username,
        owner=person,
        actor=actor,
        **values,
    )
