"""Start, stop, restart, pause, resume, remove: what is allowed, and where each one ends."""

from __future__ import annotations

import datetime as dt

import pytest
from django.utils import timezone

from ds01portal.engine.base import Observed
from ds01portal.exceptions import (
    Busy,
    EngineError,
    EngineTimeout,
    EngineUnreachable,
    FolderRefused,
    IllegalTransition,
    NoFreeDevice,
    QuotaExceeded,
)
from ds01portal.limits import UNLIMITED
from ds01portal.models import Event, Operation
from ds01portal.services.quotas import set_limits
from workspaces.models import Assignment, Container, Device, Machine
from workspaces.services import assignments, carrying, containers
from workspaces.services.folders import home_path

pytestmark = pytest.mark.django_db

State = Container.State
VERBS = ("start", "stop", "restart", "pause", "resume", "remove")
ALLOWED = {
    "launching": (),
    "created": ("start", "remove"),
    "starting": (),
    "running": ("stop", "restart", "pause", "remove"),
    "stopping": (),
    "restarting": (),
    "pausing": (),
    "paused": ("stop", "resume", "remove"),
    "resuming": (),
    "stopped": ("start", "remove"),
    "removing": (),
    "failed": ("remove",),
    "removed": (),
}
UNDER_WAY = {
    "start": "starting",
    "stop": "stopping",
    "restart": "restarting",
    "pause": "pausing",
    "resume": "resuming",
    "remove": "removing",
}
LEGAL = [(state, verb) for state, verbs in ALLOWED.items() for verb in verbs]
ILLEGAL = [
    (state, verb)
    for state, verbs in ALLOWED.items()
    for verb in VERBS
    if verb not in verbs and UNDER_WAY[verb] != state
]
BEFORE = {
    "start": "stopped",
    "stop": "running",
    "restart": "running",
    "pause": "running",
    "resume": "paused",
    "remove": "running",
}
CALL = {
    "start": "start_container",
    "stop": "stop_container",
    "restart": "restart_container",
    "pause": "pause_container",
    "resume": "resume_container",
    "remove": "remove_container",
}


@pytest.fixture
def bring(portal, launch, run_due):
    """Have a container in a settled state."""

    def bring_to(owner, state, **wishes):
        container = launch(owner, **wishes)
        for verb in {"stopped": ["stop"], "paused": ["pause"], "removed": ["remove"]}.get(
            state, []
        ):
            containers.VERBS[verb](container=container, actor=owner)
            run_due()
        container.refresh_from_db()
        assert container.state == state
        return container

    return bring_to


def act(verb, container, actor):
    containers.VERBS[verb](container=container, actor=actor)
    carrying.carry_out_due()
    container.refresh_from_db()
    return container


def retry():
    Operation.objects.update(not_before=timezone.now())
    carrying.carry_out_due()


def pass_hold(minutes=60):
    return assignments.release_expired_holds(now=timezone.now() + dt.timedelta(minutes=minutes))


def test_the_table_of_the_tests_knows_every_state_and_verb():
    assert set(ALLOWED) == set(State.values)
    assert set(VERBS) == set(Container.TRANSITIONS) == set(containers.VERBS)


@pytest.mark.parametrize(("state", "verb"), LEGAL)
def test_a_legal_verb_is_asked_for_once(portal, alice, ask, state, verb):
    container = ask(alice)
    Operation.objects.all().delete()
    Container.objects.update(state=state)

    operation = containers.VERBS[verb](container=container, actor=alice)

    assert (operation.kind, operation.state) == (verb, "queued")
    assert container.state == UNDER_WAY[verb]


@pytest.mark.parametrize(("state", "verb"), ILLEGAL)
def test_an_illegal_verb_is_refused_with_the_state_and_what_is_possible(
    portal, alice, ask, state, verb
):
    container = ask(alice)
    Operation.objects.all().delete()
    Container.objects.update(state=state)

    with pytest.raises(IllegalTransition) as refusal:
        containers.VERBS[verb](container=container, actor=alice)

    assert State(state).label.lower() in refusal.value.message
    assert refusal.value.fields["state"] == state
    assert refusal.value.fields["verb"] == verb
    assert refusal.value.fields["allowed"] == list(ALLOWED[state])
    assert refusal.value.hint
    assert not Operation.objects.exists()
    container.refresh_from_db()
    assert container.state == state


@pytest.mark.parametrize("verb", VERBS)
def test_the_same_verb_twice_is_one_operation(bring, alice, verb):
    container = bring(alice, BEFORE[verb])

    first = containers.VERBS[verb](container=container, actor=alice)
    second = containers.VERBS[verb](container=container, actor=alice)

    assert first == second
    assert Operation.objects.live().count() == 1


@pytest.mark.parametrize("verb", VERBS)
def test_another_verb_meanwhile_is_told_what_is_under_way(bring, alice, verb):
    container = bring(alice, BEFORE[verb])
    containers.VERBS[verb](container=container, actor=alice)
    other = "stop" if verb != "stop" else "remove"

    with pytest.raises(Busy) as refusal:
        containers.VERBS[other](container=container, actor=alice)

    assert verb in refusal.value.message
    assert refusal.value.fields["operation"] == verb


@pytest.mark.parametrize("verb", VERBS)
def test_an_engine_that_is_away_changes_nothing_and_the_verb_goes_on_later(
    portal, bring, alice, verb
):
    container = bring(alice, BEFORE[verb], devices=1)
    portal.go_down()

    act(verb, container, alice)

    operation = Operation.objects.get(kind=verb)
    assert operation.state == Operation.State.QUEUED
    assert container.state == UNDER_WAY[verb]
    assert Assignment.objects.live().count() == 1
    assert not Machine.current().reachable

    portal.come_up()
    retry()
    operation.refresh_from_db()
    assert operation.state == Operation.State.DONE


@pytest.mark.parametrize("verb", VERBS)
def test_a_timeout_in_the_middle_of_a_verb_decides_nothing(portal, bring, alice, verb):
    container = bring(alice, BEFORE[verb], devices=1)
    portal.fail_next(CALL[verb], EngineTimeout("No answer."))

    act(verb, container, alice)
    assert container.state == UNDER_WAY[verb]
    assert Assignment.objects.live().count() == 1

    retry()
    assert Operation.objects.get(kind=verb).state == Operation.State.DONE


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_the_engine_refuses_leaves_what_is_observed_and_says_why(portal, bring, alice, verb):
    container = bring(alice, BEFORE[verb], devices=1)
    portal.fail_next(CALL[verb], EngineError("Docker is cross.", cause="planned"))

    act(verb, container, alice)

    operation = Operation.objects.get(kind=verb)
    assert operation.state == Operation.State.FAILED
    assert operation.error["message"] == "Docker is cross."
    assert container.state == BEFORE[verb]
    event = Event.objects.get(verb=f"{verb} failed")
    assert event.reason == "Docker is cross."
    assert event.evidence["cause"] == "planned"
    assert Assignment.objects.live().count() == 1


@pytest.mark.parametrize("verb", VERBS)
def test_a_container_that_vanished_is_removed_whatever_was_asked(
    portal, bring, alice, launch, verb
):
    container = bring(alice, BEFORE[verb], devices=1)
    portal.remove_container(container.engine_name, force=True)

    act(verb, container, alice)

    assert container.state == State.REMOVED
    assert Operation.objects.get(kind=verb).state == Operation.State.DONE
    assert not Assignment.objects.live().exists()
    assert not home_path(container).exists()


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_past_its_deadline_ends_as_a_timeout_with_what_is_observed(bring, alice, verb):
    container = bring(alice, BEFORE[verb])
    containers.VERBS[verb](container=container, actor=alice)
    Operation.objects.live().update(deadline_at=timezone.now() - dt.timedelta(seconds=1))

    carrying.carry_out_due()

    container.refresh_from_db()
    assert container.state == BEFORE[verb]
    operation = Operation.objects.get(kind=verb)
    assert (operation.state, operation.error["code"]) == ("failed", "timeout")


def test_a_stop_says_who_did_it(bring, alice, admin_person):
    mine = act("stop", bring(alice, "running"), alice)
    assert mine.stop_reason == "It was stopped by its owner."
    assert mine.exit_code == 137

    theirs = bring(alice, "running")
    containers.stop_container(container=theirs, actor=admin_person)
    carrying.carry_out_due()
    theirs.refresh_from_db()
    assert admin_person.display_name in theirs.stop_reason

    by_clock = bring(alice, "running")
    containers.stop_container(container=by_clock, actor=None, reason="It was idle.")
    carrying.carry_out_due()
    by_clock.refresh_from_db()
    assert by_clock.stop_reason == "It was idle."


def test_a_stop_by_the_portal_of_a_container_without_owner_is_not_the_owners(portal, run_due):
    from workspaces.services.reconciliation import reconcile_containers

    portal.spawn_foreign("stray")
    reconcile_containers()
    stray = Container.objects.get()

    containers.stop_container(container=stray, actor=None)
    run_due()

    stray.refresh_from_db()
    assert stray.stop_reason == "It was stopped by the portal."


def test_processes_get_a_chance_to_save_before_a_stop(portal, bring, alice):
    container = bring(alice, "running")
    heard = []
    portal.on_command = lambda name, command: (heard.append((name, command)), (0, b""))[1]

    act("stop", container, alice)

    assert heard[0][0] == container.engine_name
    assert "kill -TERM -1" in heard[0][1][-1]
    assert portal.calls.index("run_command") < portal.calls.index("stop_container")


def test_a_paused_container_can_be_stopped(bring, alice):
    assert act("stop", bring(alice, "paused"), alice).state == State.STOPPED


def test_pause_and_resume_keep_the_device(portal, bring, alice):
    container = bring(alice, "paused", devices=1)
    assert portal.inspect_container(container.engine_name).state is Observed.PAUSED
    assert Assignment.objects.live().get().hold_until is None

    act("resume", container, alice)
    assert container.state == State.RUNNING
    assert Assignment.objects.live().get().state == "bound"


def test_a_restart_keeps_everything(portal, bring, alice):
    container = bring(alice, "running", devices=1)
    before = container.engine_id

    act("restart", container, alice)

    assert container.state == State.RUNNING
    assert container.engine_id == before
    assert Assignment.objects.live().get().hold_until is None


def test_after_a_stop_the_device_is_held_and_then_free(bring, alice):
    container = act("stop", bring(alice, "running", devices=1), alice)

    held = Assignment.objects.live().get()
    assert dt.timedelta(minutes=14) < held.hold_until - timezone.now() <= dt.timedelta(minutes=15)
    assert pass_hold(14) == 0
    assert pass_hold(16) == 1
    assert not Assignment.objects.live().exists()
    assert "hold time" in Assignment.objects.get().release_reason
    assert Event.objects.filter(verb="release", subject_id=container.pk).count() == 1
    assert pass_hold(16) == 0


def test_a_hold_of_zero_frees_at_once(bring, alice):
    set_limits(subject=alice, values={"gpu_hold": 0}, actor=None)
    act("stop", bring(alice, "running", devices=2), alice)
    assert not Assignment.objects.live().exists()


def test_an_unlimited_hold_never_ends(bring, alice):
    set_limits(subject=alice, values={"gpu_hold": UNLIMITED}, actor=None)
    act("stop", bring(alice, "running", devices=1), alice)
    assert pass_hold(60 * 24 * 365) == 0
    assert Assignment.objects.live().get().hold_until is None


def test_a_running_container_never_loses_its_device_to_an_old_hold(bring, alice):
    container = bring(alice, "running", devices=1)
    Assignment.objects.update(hold_until=timezone.now() - dt.timedelta(hours=1))
    assert pass_hold() == 0
    assert assignments.held_devices(container=container)


def test_a_start_that_came_just_before_the_end_of_the_hold_wins(bring, alice):
    container = act("stop", bring(alice, "running", devices=1), alice)
    later = timezone.now() + dt.timedelta(hours=1)

    # It was read as expired; the start comes before it is released.
    containers.start_container(container=container, actor=alice)
    freed = assignments.release_expired_hold(container_id=container.pk, now=later)
    carrying.carry_out_due()

    assert freed == []
    container.refresh_from_db()
    assert container.state == State.RUNNING
    assert Assignment.objects.live().count() == 1


def test_a_start_within_the_hold_keeps_the_device_and_the_container(portal, bring, alice):
    container = bring(alice, "stopped", devices=1)
    engine_id, device = container.engine_id, Assignment.objects.live().get().device_id

    act("start", container, alice)

    assert container.state == State.RUNNING
    assert container.engine_id == engine_id
    held = Assignment.objects.live().get()
    assert (held.device_id, held.state, held.hold_until) == (device, "bound", None)


def test_a_start_after_the_hold_gets_the_same_device_when_it_is_free(portal, bring, alice):
    container = bring(alice, "stopped", devices=2)
    engine_id, before = container.engine_id, set(container.spec["devices"])
    pass_hold()

    act("start", container, alice)

    assert set(container.spec["devices"]) == before
    assert container.engine_id == engine_id
    assert not Event.objects.filter(verb="recreate").exists()


def test_a_start_after_the_hold_on_another_device_makes_it_anew_and_keeps_the_home(
    portal, bring, alice, bob, launch
):
    container = bring(alice, "stopped", devices=1)
    (home_path(container) / "notes.txt").write_text("kept")
    engine_id, before = container.engine_id, container.spec["devices"]
    pass_hold()
    other = launch(bob, "quick", device_uuids=tuple(before))
    assert other.state == State.RUNNING

    act("start", container, alice)

    assert container.state == State.RUNNING
    assert container.engine_id != engine_id
    assert container.spec["devices"] != before
    details = portal.inspect_container(container.engine_name)
    assert list(details.devices) == container.spec["devices"]
    assert details.environment["NVIDIA_VISIBLE_DEVICES"] == container.spec["devices"][0]
    assert (home_path(container) / "notes.txt").read_text() == "kept"
    event = Event.objects.get(verb="recreate")
    assert event.before == {"devices": before}
    assert event.after == {"devices": container.spec["devices"]}
    assert assignments.find_double_holds() == []


@pytest.fixture
def moved(portal, bring, bob, launch):
    """A stopped container of Alice whose only device went to Bob."""

    def move(owner):
        container = bring(owner, "stopped", devices=1)
        pass_hold()
        launch(bob, "quick", device_uuids=tuple(container.spec["devices"]))
        return container

    return move


@pytest.mark.parametrize("step", ["remove_container", "create_container", "start_container"])
def test_an_engine_that_goes_away_while_it_is_made_anew_loses_nothing(portal, alice, moved, step):
    container = moved(alice)
    (home_path(container) / "notes.txt").write_text("kept")
    portal.fail_next(step, EngineUnreachable("Away."))

    act("start", container, alice)
    assert container.state == State.STARTING

    retry()
    container.refresh_from_db()
    assert container.state == State.RUNNING
    assert (home_path(container) / "notes.txt").read_text() == "kept"


def test_a_folder_that_is_refused_stops_the_start_before_anything_is_removed(
    portal, alice, moved, monkeypatch
):
    container = moved(alice)

    def refuse(**_kwargs):
        raise FolderRefused("Not yours.")

    monkeypatch.setattr("workspaces.services.mounts.prepare_mounts", refuse)
    act("start", container, alice)

    assert container.state == State.STOPPED
    assert Operation.objects.get(kind="start").error["message"] == "Not yours."
    assert portal.inspect_container(container.engine_name).id == container.engine_id


def test_a_start_that_failed_gives_the_other_device_back(portal, alice, moved):
    """What is on the engine has the old device; a start behind the back would use that one."""
    container = moved(alice)
    old = container.spec["devices"]
    portal.fail_next("ensure_network", EngineError("No network."))

    act("start", container, alice)

    assert container.state == State.STOPPED
    assert container.spec["devices"] == old
    assert not Assignment.objects.live().filter(container=container).exists()


def test_when_making_it_anew_fails_the_row_says_so_and_frees_the_device(portal, alice, moved):
    container = moved(alice)
    portal.fail_next("create_container", EngineError("No space."))

    act("start", container, alice)

    assert container.state == State.FAILED
    assert container.error["message"] == "No space."
    assert Operation.objects.get(kind="start").state == Operation.State.FAILED
    assert not Assignment.objects.live().filter(container=container).exists()


def test_a_container_made_anew_that_does_not_start_holds_its_device_for_a_time_only(
    portal, alice, moved
):
    container = moved(alice)
    portal.fail_next("start_container", EngineError("No."))

    act("start", container, alice)

    assert container.state == State.CREATED
    assert Assignment.objects.live().get(container=container).hold_until is not None
    assert pass_hold() == 1
    act("start", container, alice)
    assert container.state == State.RUNNING


def test_a_start_on_a_full_machine_is_refused_and_changes_nothing(
    portal, bring, alice, bob, charlie, launch
):
    set_limits(subject=bob, values={"gpueq": 9, "devices_per_container": 9}, actor=None)
    container = bring(alice, "stopped", devices=2)
    pass_hold()
    launch(bob, "everything", devices=5)
    events = Event.objects.count()

    with pytest.raises(NoFreeDevice):
        containers.start_container(container=container, actor=alice)

    assert container.state == State.STOPPED
    container.refresh_from_db()
    assert container.state == State.STOPPED
    assert not Operation.objects.live().exists()
    assert Event.objects.count() == events


def test_a_start_that_would_exceed_the_quota_is_refused(portal, bring, alice, launch):
    container = bring(alice, "stopped", devices=1)
    pass_hold()
    launch(alice, "other", devices=2)

    with pytest.raises(QuotaExceeded) as refusal:
        containers.start_container(container=container, actor=alice)

    assert refusal.value.fields["resource"] == "gpueq"
    container.refresh_from_db()
    assert container.state == State.STOPPED


def test_a_start_counts_processors_over_all_containers(portal, bring, alice, launch):
    container = bring(alice, "stopped", cpus=20)
    set_limits(subject=alice, values={"total_cpus": 30}, actor=None)
    launch(alice, "other", cpus=15)

    with pytest.raises(QuotaExceeded) as refusal:
        containers.start_container(container=container, actor=alice)

    assert refusal.value.fields["resource"] == "total_cpus"
    container.refresh_from_db()
    assert container.spec["cpus"] == 20


def test_a_device_that_vanished_meanwhile_is_replaced_at_the_start(portal, bring, alice):
    container = bring(alice, "stopped", devices=1)
    lost = container.spec["devices"][0]
    Device.objects.filter(pk=lost).update(present=False)

    act("start", container, alice)

    assert container.state == State.RUNNING
    assert container.spec["devices"] != [lost]
    assert not Assignment.objects.live().filter(device_id=lost).exists()


def test_a_drained_device_stays_with_who_holds_it(portal, bring, alice):
    container = bring(alice, "stopped", devices=1)
    Device.objects.update(drained=True)

    act("start", container, alice)

    assert container.state == State.RUNNING
    assert Assignment.objects.live().count() == 1


def test_an_image_tag_that_somebody_removed_is_made_again(portal, bring, alice):
    container = bring(alice, "stopped")
    portal.untag_image(f"ds01/demo-python:{container.engine_name}")

    act("start", container, alice)

    assert container.state == State.RUNNING
    assert home_path(container).exists()


def test_an_image_that_is_gone_altogether_is_no_removal_of_the_container(portal, bring, alice):
    container = bring(alice, "stopped")
    portal.images.clear()

    act("start", container, alice)

    assert container.state == State.STOPPED
    assert Operation.objects.get(kind="start").state == Operation.State.FAILED
    assert home_path(container).exists()


@pytest.mark.parametrize(("verb", "before"), [("start", "stopped"), ("restart", "running")])
def test_a_container_on_another_folder_than_was_meant_does_not_go_on_running(
    portal, bring, alice, verb, before, monkeypatch
):
    container = bring(alice, before, devices=1)
    monkeypatch.setattr(
        "workspaces.services.folders.find_swapped_mounts", lambda **_: ["/workspace"]
    )

    act(verb, container, alice)

    assert container.state == State.STOPPED
    assert portal.inspect_container(container.engine_name).state is Observed.EXITED
    error = Operation.objects.get(kind=verb).error
    assert error["fields"] == {"differs": ["folder at /workspace"]}
    assert Assignment.objects.live().get().hold_until is not None


def test_a_container_that_ends_right_after_its_start_says_so(portal, bring, alice):
    container = bring(alice, "stopped")
    start = portal.start_container

    def start_and_end(name):
        start(name)
        portal.exit_container(name, 127)

    portal.start_container = start_and_end
    act("start", container, alice)

    assert container.state == State.STOPPED
    assert "exit code 127" in container.stop_reason


def test_a_container_that_vanishes_while_a_verb_fails_is_removed(portal, bring, alice):
    container = bring(alice, "running", devices=1)
    restart = portal.restart_container

    def lose(name, **_kwargs):
        portal.remove_container(name, force=True)
        raise EngineError("Something went wrong.")

    portal.restart_container = lose
    act("restart", container, alice)
    portal.restart_container = restart

    assert container.state == State.REMOVED
    assert not Assignment.objects.live().exists()
    assert not Operation.objects.live().exists()


def test_a_removal_keeps_the_workspace_and_takes_everything_else(portal, bring, alice, tmp_path):
    container = bring(alice, "running", devices=1)
    work = tmp_path / "workspaces" / "alice" / "model.pt"
    work.write_text("weights")
    assert home_path(container).exists()

    act("remove", container, alice)

    assert container.state == State.REMOVED
    assert container.removed_at is not None
    assert work.read_text() == "weights"
    assert not home_path(container).exists()
    assert portal.list_containers() == []
    assert portal.list_networks(label="aime.mlc.DS01_NETWORK") == {}
    assert [image.tags for image in portal.list_images()] == [("ds01/demo-python:1",)]
    assert not Assignment.objects.live().exists()


def test_the_network_stays_while_another_container_is_on_it(portal, bring, alice):
    first, second = bring(alice, "running"), bring(alice, "stopped")
    act("remove", first, alice)
    assert list(portal.list_networks(label="aime.mlc.DS01_NETWORK")) == [f"ds01-{alice.uid}"]
    act("remove", second, alice)
    assert portal.list_networks(label="aime.mlc.DS01_NETWORK") == {}


def test_somebody_elses_container_of_the_same_name_survives_a_removal(portal, bring, alice):
    container = bring(alice, "stopped")
    portal.remove_container(container.engine_name)
    portal.spawn_foreign(container.engine_name)

    act("remove", container, alice)

    assert container.state == State.REMOVED
    assert [one.name for one in portal.list_containers()] == [container.engine_name]


def test_a_failed_launch_is_forgotten_while_its_name_lives_on(portal, alice, ask, launch, run_due):
    failed = ask(alice, "thesis")
    portal.fail_next("create_container", EngineError("No."))
    run_due()
    living = launch(alice, "thesis")
    assert living.state == State.RUNNING

    containers.remove_container(container=failed, actor=alice)
    run_due()

    failed.refresh_from_db()
    living.refresh_from_db()
    assert failed.state == State.REMOVED
    assert living.state == State.RUNNING
    tags = {tag for image in portal.list_images() for tag in image.tags}
    assert f"ds01/demo-python:{living.engine_name}" in tags
    assert portal.inspect_container(living.engine_name).state is Observed.RUNNING


def test_an_adopted_container_is_not_started_on_a_device_that_somebody_holds(
    portal, alice, bob, launch
):
    from workspaces.services.reconciliation import reconcile_containers

    held = launch(bob, "mine", devices=1)
    portal.spawn_foreign(
        f"old._.{alice.uid}",
        labels={"aime.mlc": "alice"},
        devices=tuple(held.spec["devices"]),
        running=False,
    )
    reconcile_containers()
    adopted = Container.objects.get(origin="mlc")
    Container.objects.filter(pk=adopted.pk).update(state=State.STOPPED)

    act("start", adopted, alice)

    operation = Operation.objects.get(kind="start")
    assert operation.state == Operation.State.FAILED
    assert operation.error["code"] == "no-free-device"
    assert "start_container" not in portal.calls[portal.calls.index("list_containers") :]
