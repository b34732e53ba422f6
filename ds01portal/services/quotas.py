"""Quotas: read, change, preview and remove the layers of limits.

What counts for a person is resolved and checked in effective_limits, whose verbs are offered
here too. Not in charge of: how much somebody uses.
"""

from __future__ import annotations

import copy
import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import Group
from django.db import transaction
from django.utils import timezone

from ds01portal.exceptions import InvalidInput
from ds01portal.limits import LIMITS, Limit, LimitSpec, Special, Unit, to_json
from ds01portal.models import Person, Quota
from ds01portal.services.effective_limits import (
    DEFAULT_GROUP_KEY,
    SPECS,
    EffectiveLimit,
    EffectiveLimits,
    check_limit,
    load_layers,
    resolve_in,
    resolve_limits,
    resolve_limits_for,
)
from ds01portal.services.events import record_event

__all__ = [
    "EffectiveLimit",
    "EffectiveLimits",
    "LimitChange",
    "Subject",
    "check_limit",
    "check_policies",
    "delete_limits",
    "find_quota",
    "preview_limits",
    "resolve_limits",
    "resolve_limits_for",
    "set_limits",
]

Subject = Person | Group | None  # whose layer: a person's, a group's, everybody's


@dataclass(frozen=True, kw_only=True, slots=True)
class LimitChange:
    """What one person would have instead of what they have now."""

    person: Person
    spec: LimitSpec
    before: Limit
    after: Limit

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "person": self.person.username,
            "limit": self.spec.name,
            "before": to_json(self.before),
            "after": to_json(self.after),
        }


def find_quota(*, subject: Subject) -> Quota | None:
    """Return the layer of a person, of a group, or (None) the defaults."""
    return Quota.objects.filter(**_layer_key(subject)).first()


def _layer_key(subject: Subject) -> dict[str, Any]:
    if isinstance(subject, Person):
        return {"layer": Quota.Layer.PERSON, "person": subject}
    if isinstance(subject, Group):
        return {"layer": Quota.Layer.GROUP, "group": subject}
    return {"layer": Quota.Layer.DEFAULTS}


def set_limits(
    *,
    subject: Subject,
    values: Mapping[str, Limit],
    actor: Person | None,
    reason: str = "",
    expires_at: dt.datetime | None = None,
    priority: int | None = None,
    policies: Mapping[str, Any] | None = None,
) -> Quota:
    """Set the named limits of one layer and leave the others; write one event if any changed.

    `reason` and `expires_at` (personal layers only) are set as given; `priority` and `policies`
    stay as they are when None. Raise InvalidInput for unknown names and impossible values.
    """
    for name, value in values.items():
        _check_value(name, value)
    if expires_at is not None and not isinstance(subject, Person):
        raise InvalidInput("Only a personal quota can expire.", field="expires_at")
    changes: dict[str, Any] = dict(values) | {"reason": reason, "expires_at": expires_at}
    if priority is not None:
        changes["priority"] = priority
    if policies is not None:
        changes["policies"] = check_policies(dict(policies))
    with transaction.atomic():
        quota, created = Quota.objects.get_or_create(**_layer_key(subject))
        quota.refresh_from_db(from_queryset=Quota.objects.select_for_update())
        before = {name: getattr(quota, name) for name in changes}
        changed = [name for name in changes if created or before[name] != changes[name]]
        if not changed:
            return quota
        for name in changed:
            setattr(quota, name, changes[name])
        quota.save()
        record_event(
            verb="create" if created else "change",
            subject_kind="quota",
            subject_id=str(quota.pk),
            subject_label=str(quota),
            owner=subject if isinstance(subject, Person) else None,
            actor=actor,
            before={} if created else {name: _plain(before[name]) for name in changed},
            after={name: _plain(changes[name]) for name in changed},
            reason=reason,
        )
    return quota


def _check_value(name: str, value: Limit) -> None:
    if name not in SPECS:
        raise InvalidInput(
            f"There is no limit “{name[:60]}”.",
            hint="Limits: " + ", ".join(SPECS) + ".",
            field=name[:60],
        )
    if isinstance(value, Special):
        return
    whole = SPECS[name].unit not in (Unit.GPUEQ, Unit.CORES)
    if not math.isfinite(value) or value < 0 or value >= 2**53 or (whole and value != int(value)):
        raise InvalidInput(
            f"{SPECS[name].label}: {value} is not possible.",
            hint="Write zero or more, or “unlimited”.",
            field=name,
        )


def check_policies(policies: Any) -> dict[str, Any]:
    """Return idle thresholds that can be: numbers, the default group, sections of these."""
    if policies in (None, ""):
        return {}
    if not isinstance(policies, dict):
        raise InvalidInput("The idle thresholds must be an object of names and numbers.")
    for name, value in policies.items():
        if name == DEFAULT_GROUP_KEY:
            if value and not Group.objects.filter(name=value).exists():
                raise InvalidInput(f"There is no group “{str(value)[:60]}”.", field=name)
        elif isinstance(value, dict):
            check_policies(value)
        elif value != "unlimited" and (
            isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53
        ):
            raise InvalidInput(f"{name}: {value} is not a number from zero on.", field=name)
    return policies


def _plain(value: Any) -> Any:
    if isinstance(value, dt.datetime):
        return value.isoformat()
    return to_json(value) if isinstance(value, Special) else value


def delete_limits(*, quota: Quota, actor: Person | None, reason: str = "") -> None:
    """Remove a group's or a person's layer. Raise InvalidInput for the defaults."""
    if quota.layer == Quota.Layer.DEFAULTS:
        raise InvalidInput("The defaults stay; empty their fields instead.", field="layer")
    with transaction.atomic():
        quota.refresh_from_db(from_queryset=Quota.objects.select_for_update())
        record_event(
            verb="remove",
            subject_kind="quota",
            subject_id=str(quota.pk),
            subject_label=str(quota),
            owner=quota.person,
            actor=actor,
            before={name: to_json(value) for name, value in quota.limits().items()},
            reason=reason,
        )
        quota.delete()


def preview_limits(
    *, subject: Subject, values: Mapping[str, Limit], now: dt.datetime | None = None
) -> list[LimitChange]:
    """Return what would change for whom if these values were set; changes nothing."""
    people = list(
        Person.objects.filter(pk=subject.pk)
        if isinstance(subject, Person)
        else Person.objects.filter(is_active=True).order_by("username")
    )
    now = now or timezone.now()
    layers = load_layers(people=people, now=now)
    patched = copy.copy(layers)
    quota = copy.copy(find_quota(subject=subject)) or Quota(**_layer_key(subject))
    for name, value in values.items():
        _check_value(name, value)
        setattr(quota, name, value)
    if isinstance(subject, Person):
        patched.people = {**layers.people, subject.pk: quota}
    elif isinstance(subject, Group):
        patched.groups = {**layers.groups, subject.pk: quota}
    else:
        patched.defaults = quota
    changes = []
    for person in people:
        before = resolve_in(person=person, layers=layers)
        after = resolve_in(person=person, layers=patched)
        for spec in LIMITS:
            old, new = before.value(spec.name), after.value(spec.name)
            if old != new:
                changes.append(LimitChange(person=person, spec=spec, before=old, after=new))
    return changes
