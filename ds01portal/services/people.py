"""People: create them, put them in a group, give them a Linux identity.

Where identities come from is in linux_identities, whose verbs are offered here too. Not in
charge of: sign-in, homes on disk, and reading people from files (people_import).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from django.db.models import Q

from ds01portal.exceptions import InvalidInput, NotFound
from ds01portal.models import Person
from ds01portal.services.linux_identities import (
    ensure_identity,
    find_system_entry,
    record_person_event,
)

__all__ = [
    "ADMIN_GROUP",
    "check_email",
    "check_not_last_admin",
    "check_username",
    "create_person",
    "ensure_identity",
    "find_person",
    "find_system_entry",
    "follow_admin_form",
    "set_group",
]

ADMIN_GROUP = "admin"


def find_person(*, username: str) -> Person:
    """Return the person with this username or host login. Raise NotFound."""
    person = Person.objects.filter(username=username).first()
    person = person or Person.objects.filter(system_login=username).exclude(system_login="").first()
    if person is None:
        raise NotFound(f"There is no person “{username[:150]}”.", field="username")
    return person


def create_person(
    *,
    username: str,
    email: str = "",
    group: str = "",
    password: str | None = None,
    uid: int | None = None,
    gid: int | None = None,
    actor: Person | None,
    **names: str,
) -> Person:
    """Create a person with a Linux identity; without a password nobody can sign in as them.

    `names` are first_name and last_name. Raise InvalidInput for what cannot be, naming it.
    """
    username, email = username.strip(), email.strip()
    check_username(username)
    check_email(email)
    person = Person(username=username, email=email, **names)
    person.set_password(password)
    with transaction.atomic():
        _insert(person)
        record_person_event(
            verb="create", person=person, actor=actor, after={"username": username, "email": email}
        )
        if group:
            set_group(person=person, group=group, actor=actor)
        ensure_identity(person=person, uid=uid, gid=gid, actor=actor)
    return person


def _insert(person: Person) -> None:
    try:
        with transaction.atomic():
            person.save()
    except IntegrityError as error:  # another request was quicker
        check_username(person.username)
        raise InvalidInput(f"{person.username} could not be created.") from error


def check_username(username: str) -> None:
    """Raise InvalidInput for a name that cannot be, or differs from another's by case only."""
    try:
        Person._meta.get_field("username").clean(username, None)
    except ValidationError as error:
        raise InvalidInput(
            f"“{username[:60]}” is not a username: {' '.join(error.messages)}", field="username"
        ) from error
    other = Person.objects.filter(username__iexact=username).first()
    if other is not None:
        raise InvalidInput(
            f"There is already a person “{other.username}”.",
            hint="Usernames that differ only in capitals cannot be told apart at sign-in.",
            field="username",
        )


def check_email(email: str, *, person: Person | None = None) -> None:
    """Raise InvalidInput for an address that cannot be, or is somebody else's."""
    if not email:
        return
    try:
        validate_email(email)
    except ValidationError as error:
        raise InvalidInput(f"“{email[:60]}” is not an e-mail address.", field="email") from error
    others = Person.objects.filter(email__iexact=email)
    other = (others.exclude(pk=person.pk) if person else others).first()
    if other is not None:
        raise InvalidInput(f"The address {email} is {other.username}'s already.", field="email")


def set_group(*, person: Person, group: str, actor: Person | None) -> bool:
    """Make this the person's only group with a quota; tell whether anything changed.

    Members of the group admin become staff and superuser, and cease to be when they leave it.
    Raise InvalidInput for an unknown group, and for taking away the last admin.
    """
    wanted = Group.objects.filter(name=group).first()
    if wanted is None:
        known = ", ".join(Group.objects.order_by("name").values_list("name", flat=True))
        raise InvalidInput(f"There is no group “{group[:60]}”. Groups: {known}.", field="group")
    current = set(
        person.groups.filter(Q(quota__isnull=False) | Q(name__in=(group, ADMIN_GROUP))).distinct()
    )
    names = sorted(one.name for one in current)
    becomes, ceases = group == ADMIN_GROUP, ADMIN_GROUP in names and group != ADMIN_GROUP
    if names == [group] and (not becomes or (person.is_superuser and person.is_staff)):
        return False
    before = {"groups": names, "is_superuser": person.is_superuser}
    with transaction.atomic():
        if ceases:
            check_not_last_admin(person)
        person.groups.remove(*(one for one in current if one != wanted))
        person.groups.add(wanted)
        if becomes or ceases:
            person.is_staff = person.is_superuser = becomes
            person.save(update_fields=["is_staff", "is_superuser"])
        after = {"groups": [group], "is_superuser": person.is_superuser}
        record_person_event(
            verb="set group", person=person, actor=actor, before=before, after=after
        )
    return True


def check_not_last_admin(person: Person) -> None:
    """Raise InvalidInput when nobody else could administer the portal."""
    others = Person.objects.filter(is_superuser=True, is_active=True).exclude(pk=person.pk)
    if not others.exists():
        raise InvalidInput(
            f"{person.username} is the last admin.",
            hint="Make somebody else an admin first.",
            field="group",
        )


def follow_admin_form(
    *,
    person: Person,
    groups_before: Sequence[str],
    rights_before: Mapping[str, Any],
    changed: Sequence[str],
    created: bool,
    actor: Person | None,
) -> None:
    """Do what belongs to an edit of a person's own fields: rights of the group admin, an event.

    `changed` are names of fields; values are recorded for groups and rights only.
    """
    groups = sorted(person.groups.values_list("name", flat=True))
    was, now = ADMIN_GROUP in groups_before, ADMIN_GROUP in groups
    if was != now:
        with transaction.atomic():
            if was:
                check_not_last_admin(person)
            person.is_staff = person.is_superuser = now
            person.save(update_fields=["is_staff", "is_superuser"])
    if not created and not changed:
        return
    record_person_event(
        verb="create" if created else "change",
        person=person,
        actor=actor,
        before={} if created else {"groups": sorted(groups_before), **rights_before},
        after={
            "groups": groups,
            "is_staff": person.is_staff,
            "is_superuser": person.is_superuser,
            "fields": [name for name in changed if "password" not in name],
        },
    )
