"""The guard: a container started behind the portal's back does not share a GPU."""

from __future__ import annotations

import datetime as dt

import pytest
from django.utils import timezone

from ds01portal.engine.base import Observed
from ds01portal.exceptions import EngineError, EngineUnreachable
from ds01portal.models import Event
from workspaces.models import Assignment, Container
from workspaces.services import assignments, carrying, containers
from workspaces.services.reconciliation import reconcile_containers

pytestmark = pytest.mark.django_db

State = Container.State


@pytest.fixture
def released(portal, alice, launch, run_due):
    """A stopped container whose hold time is over."""
    container = launch(alice, "old", devices=1)
    containers.stop_container(container=container, actor=alice)
    run_due()
    assignments.release_expired_holds(now=timezone.now() + dt.timedelta(hours=1))
    return container


def test_on_a_device_of_somebody_else_it_is_stopped_and_told_why(portal, released, bob, launch):
    new = launch(bob, "new", device_uuids=tuple(released.spec["devices"]))
    portal.start_container(released.engine_name)

    report = reconcile_containers()

    assert report.stopped == [released.engine_name]
    released.refresh_from_db()
    new.refresh_from_db()
    assert released.state == State.STOPPED
    assert "its GPU is not free" in released.stop_reason
    assert portal.inspect_container(released.engine_name).state is Observed.EXITED
    assert new.state == State.RUNNING
    event = Event.objects.get(verb="stopped by guard")
    assert event.owner == released.owner
    assert event.evidence["code"] == "no-free-device"
    assert Assignment.objects.live().get().container == new
    assert reconcile_containers().stopped == []


def test_on_a_device_that_is_free_again_it_gets_it_back(portal, released):
    portal.start_container(released.engine_name)

    assert reconcile_containers().stopped == []

    released.refresh_from_db()
    assert released.state == State.RUNNING
    held = Assignment.objects.live().get()
    assert (held.device_id, held.state) == (released.spec["devices"][0], "bound")


def test_beyond_the_owners_quota_it_is_stopped(portal, released, alice, launch):
    launch(alice, "new", devices=2)
    portal.start_container(released.engine_name)
    reconcile_containers()
    assert Event.objects.get(verb="stopped by guard").evidence["code"] == "quota-exceeded"


def test_without_devices_nobody_minds(portal, alice, launch):
    container = launch(alice)
    portal.stop_container(container.engine_name)
    reconcile_containers()
    portal.start_container(container.engine_name)
    assert reconcile_containers().stopped == []


def test_a_dry_run_stops_nothing(portal, released, bob, launch):
    launch(bob, "new", device_uuids=tuple(released.spec["devices"]))
    portal.start_container(released.engine_name)
    assert reconcile_containers(dry_run=True).stopped == []
    assert portal.inspect_container(released.engine_name).state is Observed.RUNNING


def test_after_a_start_that_failed_the_guard_still_knows_the_old_device(
    portal, released, bob, launch
):
    """What was reserved for the failed start is another device than the container has."""
    launch(bob, "new", device_uuids=tuple(released.spec["devices"]))
    portal.fail_next("ensure_network", EngineError("No network."))
    containers.start_container(container=released, actor=released.owner)
    carrying.carry_out_due()
    portal.start_container(released.engine_name)

    assert reconcile_containers().stopped == [released.engine_name]


def test_an_engine_that_is_away_stops_nothing_and_the_next_round_does(
    portal, released, bob, launch
):
    launch(bob, "new", device_uuids=tuple(released.spec["devices"]))
    portal.start_container(released.engine_name)
    portal.fail_next("stop_container", EngineUnreachable("Away."))

    with pytest.raises(EngineUnreachable):
        reconcile_containers()
    assert not Event.objects.filter(verb="stopped by guard").exists()

    assert reconcile_containers().stopped == [released.engine_name]
