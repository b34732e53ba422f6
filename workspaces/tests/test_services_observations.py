"""Observations: running, stopped with evidence, unknown; a row that moved on is left alone."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest
from django.utils import timezone

from ds01portal.engine.base import Observed
from ds01portal.models import Event
from workspaces.models import Assignment, Container, Machine
from workspaces.services import observations

pytestmark = pytest.mark.django_db

State = Container.State


@pytest.fixture
def seen(portal, alice, launch):
    """A running container, and what the engine would show of it."""
    container = launch(alice, "c", devices=1)
    details = portal.inspect_container(container.engine_name)

    def show(state, **values):
        return dataclasses.replace(details, state=state, **values)

    return container, show


def observe(container, details, **options):
    changed = observations.observe(container=container, details=details, **options)
    container.refresh_from_db()
    return changed


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (Observed.CREATED, State.CREATED),
        (Observed.PAUSED, State.PAUSED),
        (Observed.EXITED, State.STOPPED),
        (Observed.DEAD, State.STOPPED),
    ],
)
def test_what_is_seen_is_stored_with_an_event(seen, state, expected):
    container, show = seen
    assert observe(container, show(state, exit_code=0))
    assert container.state == expected
    event = Event.objects.get(verb=f"seen {expected}")
    assert event.before == {"state": "running"}


@pytest.mark.parametrize("state", [Observed.RUNNING, Observed.RESTARTING, Observed.REMOVING])
def test_what_is_no_change_or_unknown_writes_nothing(seen, state):
    container, show = seen
    events = Event.objects.count()
    assert observe(container, show(state)) is False
    assert container.state == State.RUNNING
    assert Event.objects.count() == events


def test_another_id_under_the_same_state_is_stored_without_an_event(seen):
    container, show = seen
    events = Event.objects.count()
    assert observe(container, show(Observed.RUNNING, id="f" * 64))
    assert container.engine_id == "f" * 64
    assert Event.objects.count() == events


def test_a_row_that_moved_on_is_left_alone(seen):
    container, show = seen
    Container.objects.update(state=State.REMOVING)
    assert observe(container, show(Observed.EXITED, exit_code=0)) is False
    assert container.state == State.REMOVING
    assert Assignment.objects.live().get().hold_until is None


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"oom_killed": True, "exit_code": 137}, "It ran out of memory."),
        ({"exit_code": 137}, "It was stopped outside of the portal."),
        ({"exit_code": 143}, "It was stopped outside of the portal."),
        ({"exit_code": 129}, "It was stopped outside of the portal."),
        ({"exit_code": 0}, "Its main process ended (exit code 0)."),
        ({"exit_code": 2}, "Its main process ended (exit code 2)."),
    ],
)
def test_the_evidence_explains_the_stop(seen, values, reason):
    container, show = seen
    observe(container, show(Observed.EXITED, **values))
    assert container.stop_reason == reason
    assert container.exit_code == values["exit_code"]


def test_a_given_reason_counts_more_than_the_guess(seen):
    container, show = seen
    observe(container, show(Observed.EXITED, exit_code=137), reason="x" * 400)
    assert container.stop_reason == "x" * 300


def test_a_stop_around_an_outage_is_the_outages(seen):
    container, show = seen
    now = timezone.now()
    Machine.objects.update(outage_from=now, outage_until=now + dt.timedelta(seconds=5))
    early = show(Observed.EXITED, exit_code=137, finished_at=now - dt.timedelta(seconds=200))
    assert observations.explain_stop(early) == "It was stopped outside of the portal."
    during = show(Observed.EXITED, exit_code=137, finished_at=now)
    observe(container, during)
    assert container.stop_reason.startswith("Docker Engine was stopped or restarted")


def test_running_again_forgets_the_stop(seen):
    container, show = seen
    observe(container, show(Observed.EXITED, exit_code=3))
    assert container.stopped_at is not None
    observe(container, show(Observed.RUNNING))
    assert (container.stopped_at, container.exit_code, container.stop_reason) == (None, None, "")


def test_an_end_gives_the_forms_token_free(seen):
    container, _show = seen
    Container.objects.update(request_key="k")
    observations.store_ended(container=container, state=State.REMOVED)
    container.refresh_from_db()
    assert (container.request_key, container.error) == (None, {})
    assert container.removed_at is not None
    observations.store_ended(container=container, state=State.FAILED, error={"message": "x"})
    assert container.removed_at is None


def test_without_an_outage_nothing_is_explained(db):
    assert observations.explain_outage_stops() == 0
