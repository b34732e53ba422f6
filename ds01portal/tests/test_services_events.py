"""Events are history; updates are ticks that are forgotten."""

from __future__ import annotations

import datetime as dt

import pytest
from django.utils import timezone

from ds01portal.models import Event, Person, Update
from ds01portal.services.events import announce_update, prune_updates, record_event

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner():
    return Person.objects.create(username="alice")


def test_an_event_says_who_did_what_to_which_thing_and_why(owner):
    event = record_event(
        verb="stop",
        subject_kind="container",
        subject_id="7",
        subject_label="thesis",
        owner=owner,
        actor=owner,
        before={"state": "running"},
        after={"state": "stopped"},
        reason="It was idle.",
        evidence={"gpu": 2.5},
    )
    stored = Event.objects.get()
    assert stored == event
    assert str(stored) == "stop container thesis"
    assert (stored.owner, stored.actor) == (owner, owner)
    assert (stored.before, stored.after) == ({"state": "running"}, {"state": "stopped"})
    assert (stored.reason, stored.evidence) == ("It was idle.", {"gpu": 2.5})


def test_an_event_of_the_portal_itself_has_no_actor():
    record_event(verb="unreachable", subject_kind="machine", subject_id="engine")
    event = Event.objects.get()
    assert (event.actor, event.owner, event.before, event.evidence) == (None, None, {}, {})
    assert str(event) == "unreachable machine engine"


def test_a_long_label_is_cut():
    record_event(verb="x", subject_kind="image", subject_id="1", subject_label="l" * 300)
    assert len(Event.objects.get().subject_label) == 200


def test_history_outlives_the_people_in_it(owner):
    record_event(verb="x", subject_kind="person", subject_id="1", owner=owner, actor=owner)
    owner.delete()
    event = Event.objects.get()
    assert (event.owner, event.actor) == (None, None)


def test_the_newest_event_comes_first():
    for verb in ("one", "two"):
        record_event(verb=verb, subject_kind="x", subject_id="1")
    assert list(Event.objects.values_list("verb", flat=True)) == ["two", "one"]


def test_ticks_are_for_their_owner_or_for_everybody(owner):
    announce_update(subject="container:7", owner_id=owner.pk, state="running")
    announce_update(subject="machine", owner_id=None)
    ticks = list(Update.objects.values_list("subject", "owner_id", "data"))
    assert ticks == [("container:7", owner.pk, {"state": "running"}), ("machine", None, {})]


def test_old_ticks_are_forgotten_and_history_is_not():
    announce_update(subject="old", owner_id=None)
    record_event(verb="x", subject_kind="x", subject_id="1")
    long_ago = timezone.now() - dt.timedelta(hours=2)
    Update.objects.update(created_at=long_ago)
    Event.objects.update(created_at=long_ago)
    announce_update(subject="new", owner_id=None)

    assert prune_updates() == 1

    assert Update.objects.get().subject == "new"
    assert Event.objects.count() == 1
    assert prune_updates() == 0
