"""Write history, and tell live pages that something changed.

Not in charge of: deciding anything. The change and its event belong in one transaction, which
the caller opens.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.utils import timezone

from ds01portal.models import Event, Person, Update

UPDATE_LIFETIME = dt.timedelta(hours=1)


def record_event(
    *,
    verb: str,
    subject_kind: str,
    subject_id: str,
    subject_label: str = "",
    owner: Person | None = None,
    actor: Person | None = None,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    reason: str = "",
    evidence: dict[str, Any] | None = None,
) -> Event:
    """Append one event. Call it inside the transaction of the change."""
    return Event.objects.create(
        verb=verb,
        subject_kind=subject_kind,
        subject_id=subject_id,
        subject_label=subject_label[:200],
        owner=owner,
        actor=actor,
        before=before or {},
        after=after or {},
        reason=reason,
        evidence=evidence or {},
    )


def announce_update(*, subject: str, owner_id: int | None, **data: Any) -> None:
    """Tell live pages about a subject; `owner_id` None reaches everybody."""
    Update.objects.create(subject=subject, owner_id=owner_id, data=data)


def prune_updates() -> int:
    """Forget ticks that no page can still be waiting for; return how many."""
    deleted, _rows = Update.objects.filter(created_at__lt=timezone.now() - UPDATE_LIFETIME).delete()
    return deleted
