"""Import people from a CSV file: all of it, or nothing.

Not in charge of: reading CSV (people_file), what a person may be (people), and removing
people who are not in the file.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from django.db import transaction

from ds01portal.exceptions import RefusedError
from ds01portal.models import Person
from ds01portal.people_file import PersonRow, Problem, decode_people, parse_people
from ds01portal.services.linux_identities import record_person_event
from ds01portal.services.people import check_email, create_person, ensure_identity, set_group


class Outcome(Enum):
    """What became of one line."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportedLine:
    """One line of the file and what became of it; `detail` says what changed or is wrong."""

    line: int
    username: str
    outcome: Outcome
    detail: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {**asdict(self), "outcome": self.outcome.value}


@dataclass(kw_only=True, slots=True)
class PeopleReport:
    """All lines in order. `applied` is False for a trial, and when any line was refused."""

    lines: list[ImportedLine] = field(default_factory=list)
    applied: bool = False

    @property
    def refused(self) -> list[ImportedLine]:
        """Lines that cannot be granted; with any, nothing was changed."""
        return [line for line in self.lines if line.outcome is Outcome.REFUSED]

    def count(self, outcome: Outcome) -> int:
        """Return how many lines ended so."""
        return sum(line.outcome is outcome for line in self.lines)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        counts = {outcome.value: self.count(outcome) for outcome in Outcome}
        lines = [line.as_dict() for line in self.lines]
        return {"applied": self.applied, "counts": counts, "lines": lines}


def import_users(
    *, text: str | bytes, actor: Person | None = None, dry_run: bool = False
) -> PeopleReport:
    """Create and update people; refused lines are in the report, and then nothing changes.

    Columns username, email, group; optional uid, gid. A trial run goes all the way and is
    rolled back, so it finds what the real run would find.
    """
    decoded = decode_people(text) if isinstance(text, bytes) else text
    rows, problems = ([], [decoded]) if isinstance(decoded, Problem) else parse_people(decoded)
    report = PeopleReport(
        lines=[_refused(problem.line, "", problem.message) for problem in problems]
    )
    with transaction.atomic():
        for row in rows:
            report.lines.append(_import_row(row, actor))
        report.lines.sort(key=lambda line: line.line)
        report.applied = not dry_run and not report.refused
        if not report.applied:
            transaction.set_rollback(True)
    return report


def _import_row(row: PersonRow, actor: Person | None) -> ImportedLine:
    try:
        with transaction.atomic():
            person = Person.objects.filter(username=row.username).first()
            if person is not None:
                return _update(person, row, actor)
            person = create_person(
                username=row.username,
                email=row.email,
                group=row.group,
                uid=row.uid,
                gid=row.gid,
                actor=actor,
            )
    except RefusedError as error:
        return _refused(row.line, row.username, f"{error.message} {error.hint}".strip())
    detail = f"uid {person.uid}, gid {person.gid}, Linux name {person.linux_name}"
    return ImportedLine(
        line=row.line, username=row.username, outcome=Outcome.CREATED, detail=detail
    )


def _update(person: Person, row: PersonRow, actor: Person | None) -> ImportedLine:
    changes = []
    if row.email and row.email != person.email:
        check_email(row.email, person=person)
        before, person.email = person.email, row.email
        person.save(update_fields=["email"])
        record_person_event(
            verb="change",
            person=person,
            actor=actor,
            before={"email": before},
            after={"email": row.email},
        )
        changes.append(f"e-mail {row.email}")
    if set_group(person=person, group=row.group, actor=actor):
        changes.append(f"group {row.group}")
    had = person.uid
    ensure_identity(person=person, uid=row.uid, gid=row.gid, actor=actor)
    if person.uid != had:
        changes.append(f"uid {person.uid}")
    outcome = Outcome.UPDATED if changes else Outcome.UNCHANGED
    return ImportedLine(
        line=row.line, username=row.username, outcome=outcome, detail=", ".join(changes)
    )


def _refused(line: int, username: str, detail: str) -> ImportedLine:
    return ImportedLine(line=line, username=username, outcome=Outcome.REFUSED, detail=detail)
