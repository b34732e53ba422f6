"""Limits of people: one resolver for every path, and the check against it.

A limit comes from the personal override, else from the first group by priority, else from the
defaults, field by field. Somebody in no group with a quota counts as a member of the default
group, if one is configured. A limit that no layer sets stays UNSET, which allows nothing.
Not in charge of: how much somebody uses (callers count that and pass it in), and changing
limits (quotas).
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Q
from django.utils import timezone

from ds01portal.exceptions import QuotaExceeded
from ds01portal.limits import (
    LIMITS,
    UNSET,
    Limit,
    LimitSpec,
    Special,
    Unit,
    allows,
    format_limit,
    to_json,
)
from ds01portal.models import Person, Quota

SPECS = {spec.name: spec for spec in LIMITS}
DEFAULT_GROUP_KEY = "default_group"  # in the policies of the defaults layer


@dataclass(frozen=True, kw_only=True, slots=True)
class EffectiveLimit:
    """One limit of one person, and the layer that says so (empty: none does)."""

    spec: LimitSpec
    value: Limit
    source: str
    expires_at: dt.datetime | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "value": to_json(self.value),
            "text": format_limit(self.value, self.spec.unit) or "not set",
            "unit": self.spec.unit.value,
            "source": self.source,
            "expires_at": self.expires_at.isoformat() if self.expires_at else None,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class EffectiveLimits:
    """All limits of one person. `group` is the one that counts, or empty."""

    person: Person
    group: str
    limits: dict[str, EffectiveLimit]

    def value(self, name: str) -> Limit:
        """Return one limit in base units."""
        return self.limits[name].value

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form used by commands and pages."""
        return {
            "person": self.person.username,
            "group": self.group,
            "limits": {name: limit.as_dict() for name, limit in self.limits.items()},
        }


@dataclass(kw_only=True, slots=True)
class Layers:
    """The rows that decide for some people."""

    defaults: Quota | None = None
    groups: dict[int, Quota] = field(default_factory=dict)  # by group id
    people: dict[int, Quota] = field(default_factory=dict)  # by person id
    memberships: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))

    def group_of(self, person: Person) -> Quota | None:
        """Return the quota of the group that counts for a person."""
        own = [self.groups[pk] for pk in self.memberships.get(person.pk, ()) if pk in self.groups]
        if own:
            return min(own, key=lambda quota: (quota.priority, quota.pk or 0))
        name = self.defaults.policies.get(DEFAULT_GROUP_KEY) if self.defaults else None
        quotas = self.groups.values()
        return next((quota for quota in quotas if quota.group and quota.group.name == name), None)


def load_layers(*, people: Iterable[Person], now: dt.datetime) -> Layers:
    """Return the layers that decide for some people. Two queries."""
    ids = [person.pk for person in people]
    layers = Layers()
    wanted = Q(layer=Quota.Layer.DEFAULTS) | Q(layer=Quota.Layer.GROUP) | Q(person__in=ids)
    for quota in Quota.objects.current(now).filter(wanted).select_related("group"):
        if quota.group_id is not None:
            layers.groups[quota.group_id] = quota
        elif quota.person_id is not None:
            layers.people[quota.person_id] = quota
        else:
            layers.defaults = quota
    through = Person.groups.through.objects.filter(person__in=ids)
    for person_id, group_id in through.values_list("person_id", "group_id"):
        layers.memberships[person_id].append(group_id)
    return layers


def resolve_in(*, person: Person, layers: Layers) -> EffectiveLimits:
    """Return the limits of one person, from layers that were read already."""
    group = layers.group_of(person)
    group_name = group.group.name if group and group.group else ""
    order = [(layers.people.get(person.pk), "personal"), (group, f"group {group_name}")]
    order.append((layers.defaults, "defaults"))
    present = [(quota, source) for quota, source in order if quota is not None]
    limits = {}
    for spec in LIMITS:
        limit = EffectiveLimit(spec=spec, value=UNSET, source="")
        for quota, source in present:
            value: Limit = getattr(quota, spec.name)
            if value is not UNSET:
                until = quota.expires_at
                limit = EffectiveLimit(spec=spec, value=value, source=source, expires_at=until)
                break
        limits[spec.name] = limit
    return EffectiveLimits(person=person, group=group_name, limits=limits)


def resolve_limits(*, person: Person, now: dt.datetime | None = None) -> EffectiveLimits:
    """Return the limits that count for a person now, each with its source. Two queries."""
    return resolve_limits_for(people=[person], now=now)[person.pk]


def resolve_limits_for(
    *, people: Iterable[Person], now: dt.datetime | None = None
) -> dict[int, EffectiveLimits]:
    """Return person id → limits. Two queries, however many people."""
    people = list(people)
    layers = load_layers(people=people, now=now or timezone.now())
    return {person.pk: resolve_in(person=person, layers=layers) for person in people}


def check_limit(
    *, limits: EffectiveLimits, name: str, requested: float, used: float = 0, hint: str = ""
) -> None:
    """Raise QuotaExceeded when what is used and requested together exceeds a limit.

    Amounts are in base units (bytes, seconds, cores, gpueq). The error's fields: resource,
    unit, limit, used, requested, and left (how much more would be granted).
    """
    limit = limits.value(name)
    if allows(limit, used + requested):
        return
    spec = SPECS[name]
    left = 0.0 if isinstance(limit, Special) else max(0.0, limit - used)
    asked, taken, rest = (_amount(amount, spec.unit) for amount in (requested, used, left))
    if isinstance(limit, Special):
        said = f"{spec.label}: {asked} asked for, but no limit is set for you, so none is granted."
        hint = hint or "Ask an admin to set your limits."
    elif used:
        said = (
            f"{spec.label}: {asked} asked for — your limit is {_amount(limit, spec.unit)} and "
            f"{taken} is in use, so {rest if left else 'none'} more."
        )
    else:
        said = f"{spec.label}: {asked} asked for — your limit is {_amount(limit, spec.unit)}."
    raise QuotaExceeded(
        said,
        hint=hint or ("Ask for less, or stop something first." if used else "Ask for less."),
        resource=name,
        unit=spec.unit.value,
        limit=to_json(limit),
        used=used,
        requested=requested,
        left=left,
    )


def _amount(amount: float, unit: Unit) -> str:
    return format_limit(round(float(amount), 3), unit)
