"""Import a limits file of DS01: every layer in one transaction, with a note on every key.

The file decides all limits it has words for: what it does not name is unset in that layer and
inherits. Groups and people that are not in it stay as they are. Not in charge of: what the
file means (ds01portal.ds01_limits).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from django.contrib.auth.models import Group
from django.db import transaction

from ds01portal.ds01_layers import Ds01Limits, Fate, KeyNote, Layer
from ds01portal.ds01_limits import parse_limits
from ds01portal.ds01_values import DECIDED
from ds01portal.exceptions import NotFound
from ds01portal.limits import LIMITS, UNSET, Limit, to_json
from ds01portal.models import Person, Quota
from ds01portal.services.effective_limits import DEFAULT_GROUP_KEY
from ds01portal.services.people import find_person
from ds01portal.services.quotas import Subject, find_quota, set_limits
from ds01portal.strict_yaml import bad_yaml

REASON = "imported limits file"


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerChange:
    """One limit of one layer that the import changes."""

    layer: str
    limit: str
    before: Limit
    after: Limit

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "layer": self.layer,
            "limit": self.limit,
            "before": to_json(self.before),
            "after": to_json(self.after),
        }


@dataclass(kw_only=True, slots=True)
class LimitsReport:
    """What the import did, or would do when `applied` is False."""

    notes: list[KeyNote] = field(default_factory=list)
    changes: list[LayerChange] = field(default_factory=list)
    new_groups: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    applied: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {
            "applied": self.applied,
            "keys": [note.as_dict() for note in self.notes],
            "changes": [change.as_dict() for change in self.changes],
            "new_groups": self.new_groups,
            "warnings": self.warnings,
        }


def import_limits(
    *, text: str | bytes, actor: Person | None = None, dry_run: bool = False
) -> LimitsReport:
    """Set the layers as the file says. Raise InvalidInput (with the line) and change nothing.

    A trial run goes all the way and is rolled back.
    """
    limits = parse_limits(text)
    report = LimitsReport(notes=limits.notes, applied=not dry_run)
    with transaction.atomic():
        for number, (name, layer) in enumerate(limits.groups.items(), start=1):
            group, created = Group.objects.get_or_create(name=name)
            if created:
                report.new_groups.append(name)
            _apply(report, group, f"groups.{name}", layer, actor, priority=10 * number)
        _apply_defaults(report, limits, actor)
        for name, layer in limits.people.items():
            _apply_person(report, name, layer, actor)
        _warn(report, limits)
        if dry_run:
            transaction.set_rollback(True)
    return report


def _apply_defaults(report: LimitsReport, limits: Ds01Limits, actor: Person | None) -> None:
    known = limits.default_group in limits.groups or not limits.default_group
    if not known and not Group.objects.filter(name=limits.default_group).exists():
        line = next(note.line for note in report.notes if note.path == "default_group")
        raise bad_yaml(line, f"default_group: there is no group “{limits.default_group[:60]}”.")
    existing = find_quota(subject=None)
    default_group = limits.default_group or (
        existing.policies.get(DEFAULT_GROUP_KEY, "") if existing else ""
    )
    limits.defaults.policies[DEFAULT_GROUP_KEY] = default_group
    _apply(report, None, "defaults", limits.defaults, actor)


def _apply(
    report: LimitsReport,
    subject: Subject,
    path: str,
    layer: Layer,
    actor: Person | None,
    priority: int | None = None,
) -> None:
    before = (find_quota(subject=subject) or Quota()).limits()
    values = {name: layer.limits.get(name, UNSET) for name in DECIDED} | layer.limits
    set_limits(
        subject=subject,
        values=values,
        actor=actor,
        reason=layer.reason or REASON,
        expires_at=layer.expires_at,
        priority=priority,
        policies=layer.policies,
    )
    for spec in LIMITS:
        after = values.get(spec.name, before[spec.name])
        if before[spec.name] != after:
            report.changes.append(
                LayerChange(layer=path, limit=spec.name, before=before[spec.name], after=after)
            )


def _apply_person(report: LimitsReport, name: str, layer: Layer, actor: Person | None) -> None:
    path = f"user_overrides.{name}"
    try:
        person = find_person(username=name)
    except NotFound:
        reason = f"there is no person “{name}” here; import people first, then the limits again"
        report.warnings.append(f"{path}: {reason}")
        for index, note in enumerate(report.notes):
            if note.path == path or note.path.startswith(f"{path}."):
                report.notes[index] = replace(note, fate=Fate.IGNORED, detail=reason)
        return
    _apply(report, person, path, layer, actor)


def _warn(report: LimitsReport, limits: Ds01Limits) -> None:
    """Name limits that some people have from no layer: nothing is granted to those."""
    defaults = find_quota(subject=None)
    for spec in LIMITS:
        if defaults is None or getattr(defaults, spec.name) is not UNSET:
            continue
        silent = [name for name, layer in limits.groups.items() if spec.name not in layer.limits]
        whom = f"people in {', '.join(silent)} or in no group" if silent else "people in no group"
        report.warnings.append(f"{spec.name} is not set in defaults: {whom} are granted none")
