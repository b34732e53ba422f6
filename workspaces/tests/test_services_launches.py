"""Launching: what a student gets, and that a failure at any step leaves nothing behind."""

from __future__ import annotations

import datetime as dt

import pytest
from django.utils import timezone

from ds01portal.engine.fake import FakeEngine
from ds01portal.exceptions import (
    DeviceDriverMissing,
    EngineError,
    EngineUnreachable,
    InvalidInput,
    NoFreeDevice,
    QuotaExceeded,
    RlimitRefused,
)
from ds01portal.models import Event, Operation
from workspaces.models import Assignment, Container
from workspaces.services import carrying, containers, launches
from workspaces.services.folders import home_path

pytestmark = pytest.mark.django_db

STEPS_THAT_CAN_FAIL = [
    "tag_image",
    "ensure_network",
    "read_image_files",
    "create_container",
    "start_container",
]


def assert_nothing_left(engine: FakeEngine, container: Container) -> None:
    assert engine.list_containers() == []
    assert not any("._." in tag for image in engine.list_images() for tag in image.tags)
    assert engine.list_networks(label="aime.mlc.DS01_NETWORK") == {}
    assert not Assignment.objects.live().exists()
    assert not home_path(container).exists()


def test_a_launch_ends_running_with_its_devices_bound(portal, alice, launch):
    container = launch(alice, "thesis", devices=2)

    assert container.state == Container.State.RUNNING
    assert container.engine_name == f"thesis._.{alice.uid}"
    assert Assignment.objects.filter(state="bound").count() == 2
    details = portal.inspect_container(container.engine_name)
    assert set(details.devices) == set(container.spec["devices"])
    assert details.user == f"{alice.uid}:{alice.gid}"
    verbs = list(Event.objects.filter(subject_id=container.pk).values_list("verb", flat=True))
    assert verbs == ["launched", "launch", "reserve"]


def test_without_a_gpu_the_container_sees_void(portal, alice, launch):
    container = launch(alice, "cpu")

    environment = portal.inspect_container(container.engine_name).environment
    assert environment["NVIDIA_VISIBLE_DEVICES"] == "void"


@pytest.mark.parametrize("step", STEPS_THAT_CAN_FAIL)
def test_a_failure_at_any_step_leaves_nothing_behind(portal, alice, ask, step):
    container = ask(alice, "unlucky", devices=2)
    portal.fail_next(step, EngineError("Broken.", cause="planned"))

    carrying.carry_out_due()

    container.refresh_from_db()
    assert container.state == Container.State.FAILED
    assert container.error["message"] == "Broken."
    assert container.error["cause"] == "planned"
    assert_nothing_left(portal, container)


@pytest.mark.parametrize("step", [*STEPS_THAT_CAN_FAIL, "inspect_container"])
def test_an_engine_that_goes_away_delays_a_launch_and_frees_nothing(portal, alice, ask, step):
    container = ask(alice, "patient", devices=2)
    portal.fail_next(step, EngineUnreachable("Away."))

    carrying.carry_out_due()
    container.refresh_from_db()
    assert container.state == Container.State.LAUNCHING
    assert Assignment.objects.live().count() == 2

    Operation.objects.update(not_before=timezone.now())
    carrying.carry_out_due()
    container.refresh_from_db()
    assert container.state == Container.State.RUNNING
    assert len(portal.list_containers()) == 1


def test_an_undo_that_is_cut_off_goes_on_later(portal, alice, ask):
    container = ask(alice, "twice-unlucky", devices=1)
    portal.fail_next("start_container", EngineError("Broken."))
    portal.fail_next("untag_image", EngineUnreachable("Away."))

    carrying.carry_out_due()
    container.refresh_from_db()
    assert container.state == Container.State.LAUNCHING

    Operation.objects.update(not_before=timezone.now())
    carrying.carry_out_due()
    container.refresh_from_db()
    assert container.state == Container.State.FAILED
    assert container.error["message"] == "Broken."
    assert_nothing_left(portal, container)


def test_a_cancel_undoes_everything_and_forgets_the_container(portal, alice, ask):
    container = ask(alice, "regret", devices=1)

    assert containers.cancel_launch(container=container, actor=alice)
    carrying.carry_out_due()

    container.refresh_from_db()
    assert container.state == Container.State.REMOVED
    assert Operation.objects.get().state == Operation.State.CANCELLED
    assert_nothing_left(portal, container)


def test_past_its_deadline_a_launch_ends_as_a_timeout(portal, alice, ask):
    container = ask(alice, "late")
    Operation.objects.update(deadline_at=timezone.now() - dt.timedelta(seconds=1))

    carrying.carry_out_due()

    container.refresh_from_db()
    assert container.state == Container.State.FAILED
    assert container.error["family"] == "timeout"
    assert_nothing_left(portal, container)


def test_a_machine_that_may_not_lock_memory_is_learned_once_and_said(portal, alice, launch):
    portal.fail_next("start_container", RlimitRefused("memlock"))

    first, second = launch(alice, "one"), launch(alice, "two")

    assert first.state == second.state == Container.State.RUNNING
    assert any("memlock" in note for note in first.notes)
    assert any("memlock" in note for note in second.notes)


def test_simulated_devices_the_engine_cannot_take_are_left_out_and_said(portal, alice, launch):
    portal.fail_next("start_container", DeviceDriverMissing("no driver"))

    container = launch(alice, "sim", devices=1)

    assert container.state == Container.State.RUNNING
    assert container.simulated
    assert portal.inspect_container(container.engine_name).devices == ()
    assert any("simulated" in note for note in container.notes)


def test_the_same_request_twice_gives_the_same_container(portal, alice, ask):
    first = ask(alice, "double", request_key="k1", devices=1)
    second = ask(alice, "double", request_key="k1", devices=1)

    assert first.pk == second.pk
    assert Operation.objects.count() == 1
    assert Assignment.objects.live().count() == 1


def test_a_name_in_use_is_refused_and_free_again_after_removal(portal, alice, launch):
    container = launch(alice, "mine")
    with pytest.raises(InvalidInput, match="already"):
        launch(alice, "mine")

    containers.remove_container(container=container, actor=alice)
    carrying.carry_out_due()
    assert launch(alice, "mine").state == Container.State.RUNNING


def test_somebody_elses_container_of_that_name_on_the_engine_is_left_alone(portal, alice, ask):
    portal.spawn_foreign(f"taken._.{alice.uid}")

    container = ask(alice, "taken")
    carrying.carry_out_due()

    container.refresh_from_db()
    assert container.state == Container.State.FAILED
    assert container.error["code"] == "engine-conflict"
    assert [summary.name for summary in portal.list_containers()] == [f"taken._.{alice.uid}"]


def test_quota_and_full_machine_are_two_different_refusals(portal, alice, bob, charlie, launch):
    with pytest.raises(QuotaExceeded) as quota:
        launch(alice, "greedy", devices=3)
    assert quota.value.fields["limit"] == 2

    launch(alice, "a", devices=2)
    with pytest.raises(QuotaExceeded):
        launch(alice, "b", devices=1)

    launch(charlie, "c", devices=2)
    launch(charlie, "d", devices=2)
    with pytest.raises(NoFreeDevice) as full:
        launch(bob, "e", devices=1)
    assert full.value.fields == {"free": 0, "requested": 1}


def test_a_third_container_is_the_last(portal, alice, launch):
    for number in range(3):
        launch(alice, f"c{number}")

    with pytest.raises(QuotaExceeded) as refusal:
        launch(alice, "c3")

    assert refusal.value.fields["resource"] == "containers"
    assert Container.objects.count() == 3


def test_a_container_that_is_not_what_was_asked_for_is_undone(portal, alice, ask, monkeypatch):
    container = ask(alice, "odd")
    monkeypatch.setattr(
        "workspaces.services.verification._facts", lambda *_: {"capabilities": False}
    )

    carrying.carry_out_due()

    container.refresh_from_db()
    assert container.state == Container.State.FAILED
    assert container.error["fields"] == {"differs": ["capabilities"]}
    assert_nothing_left(portal, container)


def test_every_phase_is_entered_in_order(portal, alice, ask, monkeypatch):
    seen = []
    enter = launches.Work.enter_phase
    monkeypatch.setattr(
        launches.Work,
        "enter_phase",
        lambda self, phase, *a: (seen.append(phase), enter(self, phase)),
    )
    ask(alice, "phases")
    carrying.carry_out_due()
    assert tuple(seen) == launches.PHASES
