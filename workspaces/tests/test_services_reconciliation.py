"""Reconciling: what happened outside is seen, and what is unknown changes nothing."""

from __future__ import annotations

import datetime as dt

import pytest
from django.utils import timezone

from ds01portal.exceptions import EngineError, EngineTimeout, EngineUnreachable
from ds01portal.models import Event, Operation
from workspaces.models import Assignment, Container, ForeignUse, Machine
from workspaces.services import carrying, containers, observations
from workspaces.services.folders import home_path
from workspaces.services.reconciliation import reconcile_containers

pytestmark = pytest.mark.django_db

State = Container.State


def reconcile(container, **options):
    report = reconcile_containers(**options)
    container.refresh_from_db()
    return report


def snapshot():
    """Everything that a reconcile may write, but the time of the last one."""
    return (
        list(Container.objects.order_by("pk").values()),
        list(Assignment.objects.order_by("pk").values()),
        list(ForeignUse.objects.order_by("pk").values()),
        Event.objects.count(),
    )


def test_nothing_happened_and_nothing_changes_for_one_listing(portal, alice, launch):
    for number in range(3):
        launch(alice, f"c{number}")
    before = snapshot()
    portal.calls.clear()

    report = reconcile_containers()

    assert (report.rows, report.on_engine, report.changed) == (3, 3, [])
    assert portal.calls == ["list_containers"]
    assert snapshot() == before
    assert Machine.current().reconciled_at is not None


def test_stopped_outside_is_seen_with_its_evidence_and_the_hold_begins(portal, alice, launch):
    container = launch(alice, devices=1)
    portal.stop_container(container.engine_name)

    report = reconcile(container)

    assert report.changed == [container.engine_name]
    assert (container.state, container.exit_code) == (State.STOPPED, 137)
    assert container.stop_reason == "It was stopped outside of the portal."
    assert container.stopped_at is not None
    assert Assignment.objects.live().get().hold_until is not None
    event = Event.objects.get(verb="seen stopped")
    assert event.before == {"state": "running"}
    assert event.after == {"state": "stopped", "exit_code": 137}


def test_out_of_memory_and_an_end_by_itself_are_told_apart(portal, alice, launch):
    first, second = launch(alice, "first"), launch(alice, "second")
    portal.exit_container(first.engine_name, 137, out_of_memory=True)
    portal.exit_container(second.engine_name, 3)

    reconcile(first)
    second.refresh_from_db()

    assert first.stop_reason == "It ran out of memory."
    assert second.stop_reason == "Its main process ended (exit code 3)."


def test_started_outside_within_the_hold_keeps_its_device(portal, alice, launch):
    container = launch(alice, devices=1)
    portal.stop_container(container.engine_name)
    reconcile(container)
    portal.start_container(container.engine_name)

    report = reconcile(container)

    assert report.stopped == []
    assert container.state == State.RUNNING
    assert container.stop_reason == ""
    assert Assignment.objects.live().get().hold_until is None


def test_paused_outside_is_seen_and_resumed_too(portal, alice, launch):
    container = launch(alice)
    portal.pause_container(container.engine_name)
    reconcile(container)
    assert container.state == State.PAUSED
    portal.resume_container(container.engine_name)
    reconcile(container)
    assert container.state == State.RUNNING


def test_removed_outside_frees_everything(portal, alice, launch):
    container = launch(alice, devices=2)
    portal.remove_container(container.engine_name, force=True)

    report = reconcile(container)

    assert report.gone == [container.engine_name]
    assert container.state == State.REMOVED
    assert not Assignment.objects.live().exists()
    assert "outside" in Event.objects.get(verb="seen removed").reason
    assert not home_path(container).exists()
    assert portal.list_networks(label="aime.mlc.DS01_NETWORK") == {}


def test_a_container_of_mlc_is_adopted_once(portal, alice):
    portal.spawn_foreign(f"old._.{alice.uid}", labels={"aime.mlc": "alice"})

    assert reconcile_containers().adopted == [f"old._.{alice.uid}"]
    assert reconcile_containers().adopted == []

    container = Container.objects.get()
    assert (container.owner, container.origin, container.state) == (alice, "mlc", State.RUNNING)


def test_a_dry_run_tells_everything_and_changes_nothing(portal, alice, launch):
    stopped, gone = launch(alice, "stopped", devices=1), launch(alice, "gone", devices=1)
    portal.stop_container(stopped.engine_name)
    portal.remove_container(gone.engine_name, force=True)
    portal.spawn_foreign("stray", device_count=1)
    before, reconciled_at = snapshot(), Machine.current().reconciled_at

    report = reconcile_containers(dry_run=True)

    assert report.changed == [stopped.engine_name]
    assert report.gone == [gone.engine_name]
    assert report.adopted == ["stray"]
    assert report.as_dict()["rows"] == 2
    assert snapshot() == before
    assert Machine.current().reconciled_at == reconciled_at
    assert home_path(gone).exists()


@pytest.mark.parametrize("error", [EngineUnreachable, EngineTimeout, EngineError])
def test_when_the_listing_fails_nothing_is_known_and_nothing_changes(portal, alice, launch, error):
    container = launch(alice, devices=1)
    portal.stop_container(container.engine_name)
    portal.spawn_foreign("stray")
    before = snapshot()
    portal.fail_next("list_containers", error("No."))

    with pytest.raises(error):
        reconcile_containers()

    assert snapshot()[:3] == before[:3]
    machine = Machine.current()
    assert not machine.reachable
    assert machine.unreachable_since is not None

    reconcile(container)
    assert container.state == State.STOPPED
    assert Machine.current().reachable


def test_an_engine_that_goes_away_half_way_frees_nothing(portal, alice, launch):
    first, second = launch(alice, "first", devices=1), launch(alice, "second", devices=1)
    for container in (first, second):
        portal.remove_container(container.engine_name, force=True)
    portal.fail_next("inspect_container", EngineUnreachable("Away."))

    with pytest.raises(EngineUnreachable):
        reconcile_containers()

    assert Assignment.objects.live().count() == 2
    assert Container.objects.filter(state=State.RUNNING).count() == 2
    assert len(reconcile_containers().gone) == 2


def test_one_container_that_cannot_be_looked_at_does_not_hide_the_others(portal, alice, launch):
    first, second = launch(alice, "first"), launch(alice, "second")
    for container in (first, second):
        portal.stop_container(container.engine_name)
    portal.spawn_foreign("stray")
    portal.fail_next("inspect_container", EngineError("Docker is confused by this one."))

    report = reconcile_containers()

    states = sorted(Container.objects.filter(origin="portal").values_list("state", flat=True))
    assert states == ["running", "stopped"]
    assert report.adopted == ["stray"]
    assert Machine.current().reachable
    reconcile_containers()
    assert Container.objects.filter(origin="portal", state=State.STOPPED).count() == 2


def test_a_container_that_is_gone_in_the_listing_only_stays(portal, alice, launch, monkeypatch):
    container = launch(alice, devices=1)
    monkeypatch.setattr(portal, "list_containers", list)

    report = reconcile(container)

    assert report.gone == []
    assert container.state == State.RUNNING


@pytest.mark.parametrize("verb", ["stop", "pause", "remove", "restart"])
def test_a_row_with_an_operation_under_way_belongs_to_it(portal, alice, launch, verb):
    container = launch(alice, devices=1)
    containers.VERBS[verb](container=container, actor=alice)
    portal.stop_container(container.engine_name)
    before = snapshot()

    reconcile(container)
    assert snapshot() == before

    portal.remove_container(container.engine_name, force=True)
    reconcile(container)
    assert snapshot() == before


def test_a_launch_under_way_is_left_alone(portal, alice, ask):
    container = ask(alice, devices=1)
    report = reconcile(container)
    assert (report.rows, report.gone) == (0, [])
    assert container.state == State.LAUNCHING


def test_a_row_that_a_broken_operation_left_behind_gets_what_is_observed(portal, alice, launch):
    container = launch(alice)
    Container.objects.update(state=State.STOPPING)
    Operation.objects.update(state="failed")

    reconcile(container)

    assert container.state == State.RUNNING


def test_a_failed_launch_is_no_row_to_compare(portal, alice, ask, run_due):
    container = ask(alice)
    portal.fail_next("create_container", EngineError("No."))
    run_due()
    report = reconcile(container)
    assert (report.rows, container.state) == (0, State.FAILED)


def test_what_stopped_with_the_engine_says_so_and_other_reasons_stay(portal, alice, launch):
    mine, crashed, starved = (launch(alice, name) for name in ("mine", "crashed", "starved"))
    containers.stop_container(container=mine, actor=alice)
    carrying.carry_out_due()
    portal.exit_container(crashed.engine_name, 137)
    portal.exit_container(starved.engine_name, 137, out_of_memory=True)
    reconcile_containers()
    portal.go_down()
    with pytest.raises(EngineUnreachable):
        reconcile_containers()
    portal.come_up()
    reconcile_containers()

    for container in (mine, crashed, starved):
        container.refresh_from_db()
    assert mine.stop_reason == "It was stopped by its owner."
    assert starved.stop_reason == "It ran out of memory."
    assert crashed.stop_reason.startswith("Docker Engine was stopped or restarted")
    assert observations.explain_outage_stops() == 0


def test_a_container_long_stopped_is_not_explained_by_todays_outage(portal, alice, launch):
    container = launch(alice)
    portal.exit_container(container.engine_name, 137)
    reconcile(container)
    Container.objects.update(stopped_at=timezone.now() - dt.timedelta(hours=1))
    portal.go_down()
    with pytest.raises(EngineUnreachable):
        reconcile_containers()
    portal.come_up()
    reconcile(container)
    assert container.stop_reason == "It was stopped outside of the portal."


def test_the_devices_of_a_stray_container_count_while_it_runs(portal, alice, launch):
    used = launch(alice, devices=1).spec["devices"]
    portal.spawn_foreign("stray", devices=tuple(used))

    report = reconcile_containers()

    assert report.foreign_uses == 1
    assert ForeignUse.objects.get().engine_name == "stray"
    clash = Event.objects.get(verb="device clash")
    assert clash.owner == alice
    assert "stray" in clash.reason

    portal.stop_container("stray")
    reconcile_containers()
    assert not ForeignUse.objects.exists()
