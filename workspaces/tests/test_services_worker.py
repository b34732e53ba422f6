"""The worker: what it claims comes to its right end, whatever happens in between."""

from __future__ import annotations

import datetime as dt
import json
import threading

import pytest
from django.db import DatabaseError
from django.utils import timezone

from catalog.models import Image
from catalog.services.pulls import ensure_image, request_pull
from ds01portal.exceptions import EngineError, EngineTimeout, EngineUnreachable
from ds01portal.models import Operation
from ds01portal.services.operations import Work, cancel_operation, claim_operation
from workspaces.models import Assignment, Container, Machine
from workspaces.services import carrying, containers, launch_images, requests
from workspaces.services.folders import home_path
from workspaces.tests.processes import (
    fresh_database,
    make_environment,
    run_python,
    start_python,
)

pytestmark = pytest.mark.django_db

State = Container.State
REMOTE = "lab/remote:1"


@pytest.fixture
def remote_image(portal):
    """An image in the registry that is not on this machine."""
    portal.add_remote_image(REMOTE, (1_000_000, 2_000_000), files={"/etc/passwd": b""})
    return Image.objects.create(
        kind=Image.Kind.CATALOG,
        framework="Remote",
        framework_slug="remote",
        version="1",
        architectures=";CUDA_ADA;",
        reference=REMOTE,
    )


@pytest.fixture
def ask_remote(remote_image):
    def ask(owner, name="remote", **wishes):
        request = requests.LaunchRequest(
            owner=owner, name=name, **launch_images.image_fields(remote_image), **wishes
        )
        return containers.launch_container(request=request, actor=owner)

    return ask


def due_again():
    Operation.objects.live().update(not_before=timezone.now())
    carrying.carry_out_due()


def break_handler(monkeypatch, error, kind="launch"):
    def fail(work):
        raise error

    monkeypatch.setitem(carrying.HANDLERS, kind, fail)


@pytest.mark.parametrize("error", [EngineUnreachable, EngineTimeout])
def test_without_an_answer_an_operation_waits_and_says_why(portal, alice, ask, error):
    container = ask(alice, devices=1)
    portal.fail_next("tag_image", error("No answer."))

    carrying.carry_out_due()

    operation = Operation.objects.get()
    assert (operation.state, operation.message) == ("queued", "No answer.")
    assert operation.lease_until is None
    assert operation.not_before > timezone.now()
    assert not Machine.current().reachable
    assert carrying.carry_out_due() == 0

    due_again()
    container.refresh_from_db()
    assert container.state == State.RUNNING


def test_an_outage_that_lasts_longer_than_five_tries_ends_nothing(portal, alice, ask):
    container = ask(alice, devices=1)
    portal.go_down()
    for _try in range(8):
        due_again()
    assert Operation.objects.get().attempt == 8
    portal.come_up()
    due_again()
    container.refresh_from_db()
    assert container.state == State.RUNNING


def test_a_mistake_of_the_portal_is_tried_again(portal, alice, ask, monkeypatch):
    container = ask(alice)
    break_handler(monkeypatch, RuntimeError("a mistake"))
    carrying.carry_out_due()
    assert Operation.objects.get().state == "queued"
    assert Operation.objects.get().message == "The portal made a mistake."

    monkeypatch.undo()
    due_again()
    container.refresh_from_db()
    assert container.state == State.RUNNING


def test_after_five_mistakes_a_launch_ends_and_leaves_nothing_behind(
    portal, alice, ask, monkeypatch
):
    container = ask(alice, "cursed", devices=2, request_key="k")
    monkeypatch.setattr("workspaces.services.launches.verify_container", lambda **_: 1 / 0)
    for _try in range(5):
        due_again()

    operation = Operation.objects.get()
    assert (operation.state, operation.mistakes) == ("failed", 5)
    assert operation.error["message"] == "The portal made a mistake."
    container.refresh_from_db()
    assert container.state == State.FAILED
    assert "division" in container.error["cause"]
    assert container.request_key is None
    assert portal.list_containers() == []
    assert portal.list_networks(label="aime.mlc.DS01_NETWORK") == {}
    assert not Assignment.objects.live().exists()
    assert not home_path(container).exists()


def test_an_undo_by_mistake_waits_for_an_engine_that_is_away(portal, alice, ask, monkeypatch):
    container = ask(alice, devices=1)
    break_handler(monkeypatch, RuntimeError("a mistake"))
    Operation.objects.update(mistakes=4)
    portal.go_down()
    due_again()
    assert Operation.objects.get().state == "queued"
    assert Assignment.objects.live().count() == 1

    monkeypatch.undo()
    portal.come_up()
    due_again()
    container.refresh_from_db()
    assert container.state == State.FAILED
    assert not Assignment.objects.live().exists()


def test_what_cannot_be_undone_ends_all_the_same_and_frees_nothing(portal, alice, ask, monkeypatch):
    """The engine may still run it: unknown is not free. Removing it later frees it."""
    container = ask(alice, devices=1)
    break_handler(monkeypatch, RuntimeError("a mistake"))
    monkeypatch.setattr("workspaces.services.launches.discard", lambda *_: 1 / 0)
    Operation.objects.update(mistakes=4)
    due_again()

    container.refresh_from_db()
    assert container.state == State.FAILED
    assert Operation.objects.get().state == "failed"
    assert Assignment.objects.live().count() == 1

    monkeypatch.undo()
    containers.remove_container(container=container, actor=alice)
    carrying.carry_out_due()
    assert not Assignment.objects.live().exists()


def test_after_five_mistakes_a_verb_ends_and_the_row_gets_what_is_observed(
    portal, alice, launch, monkeypatch
):
    from workspaces.services.reconciliation import reconcile_containers

    container = launch(alice, devices=1)
    containers.stop_container(container=container, actor=alice)
    break_handler(monkeypatch, RuntimeError("a mistake"), "stop")
    for _try in range(5):
        due_again()

    assert Operation.objects.get(kind="stop").state == "failed"
    reconcile_containers()
    container.refresh_from_db()
    assert container.state == State.RUNNING
    assert Assignment.objects.live().count() == 1


def test_a_kind_nobody_knows_ends_too(portal):
    now = timezone.now()
    Operation.objects.create(
        kind="dance",
        subject_kind="container",
        subject_id="1",
        created_at=now,
        not_before=now,
        deadline_at=now,
        mistakes=4,
    )
    carrying.carry_out_due()
    assert Operation.objects.get().state == "failed"


def test_a_database_that_fails_while_giving_back_leaves_it_to_the_lease(
    portal, alice, ask, monkeypatch
):
    ask(alice)
    break_handler(monkeypatch, EngineUnreachable("Away."))

    def fail(*_args, **_kwargs):
        raise DatabaseError("gone")

    monkeypatch.setattr(Work, "postpone", fail)
    assert carrying.carry_out_due() == 1
    assert Operation.objects.get().state == "running"

    monkeypatch.undo()
    Operation.objects.update(lease_until=timezone.now() - dt.timedelta(seconds=1))
    assert carrying.carry_out_due() == 1
    assert Operation.objects.get().state == "done"


def test_a_worker_that_lost_its_lease_writes_nothing_more(portal, alice, ask, monkeypatch):
    container = ask(alice, devices=1)
    verify = "workspaces.services.launches.verify_container"

    def lose_the_lease(**_kwargs):
        Operation.objects.update(lease_until=timezone.now() - dt.timedelta(seconds=1))
        assert claim_operation(worker="other").attempt == 2

    monkeypatch.setattr(verify, lose_the_lease)
    carrying.carry_out_due(worker="zombie")

    operation = Operation.objects.get()
    assert (operation.state, operation.worker) == ("running", "other")
    container.refresh_from_db()
    assert container.state == State.LAUNCHING
    assert Assignment.objects.get().state == "reserved"

    monkeypatch.undo()
    carrying.carry_out(operation)
    container.refresh_from_db()
    assert container.state == State.RUNNING
    assert len(portal.list_containers()) == 1


def test_operations_of_dead_workers_on_this_host_are_free_at_once(portal, alice, bob, ask):
    ask(alice)
    ask(bob)
    host = carrying.worker_name().partition(":")[0]
    claim_operation(worker=f"{host}:999999999")
    claim_operation(worker="elsewhere:999999999")

    assert carrying.release_dead_workers() == 1
    assert carrying.carry_out_due() == 1
    assert Operation.objects.get(state="running").worker == "elsewhere:999999999"


def test_a_living_worker_keeps_its_operation(portal, alice, ask):
    ask(alice)
    claim_operation(worker=carrying.worker_name())
    assert carrying.release_dead_workers() == 0
    assert carrying.carry_out_due() == 0


def test_an_image_that_is_not_here_is_pulled_with_progress(portal, alice, ask_remote):
    container = ask_remote(alice)
    carrying.carry_out_due()
    container.refresh_from_db()
    assert container.state == State.RUNNING
    assert container.image_engine_id == portal.inspect_image(REMOTE).id


def test_a_launch_cancelled_in_the_queue_pulls_nothing(portal, alice, ask_remote):
    container = ask_remote(alice, devices=1)
    assert containers.cancel_launch(container=container, actor=alice)

    carrying.carry_out_due()

    container.refresh_from_db()
    assert container.state == State.REMOVED
    assert "pull_image" not in portal.calls
    assert not Assignment.objects.live().exists()
    assert containers.cancel_launch(container=container, actor=alice) is False


def test_a_launch_cancelled_while_it_pulls_is_undone(portal, alice, ask_remote, monkeypatch):
    container = ask_remote(alice, devices=1)
    report = Work.report

    def cancel(self, percent, message):
        containers.cancel_launch(container=container, actor=alice)
        report(self, percent, message)

    portal.registry[REMOTE].seconds_per_step = 0.01
    monkeypatch.setattr(Work, "report", cancel)
    carrying.carry_out_due()

    container.refresh_from_db()
    assert container.state == State.REMOVED
    assert Operation.objects.get().state == "cancelled"
    assert Operation.objects.get().error["code"] == "cancelled"
    assert not Assignment.objects.live().exists()
    assert portal.list_containers() == []


def test_a_pull_that_breaks_ends_the_launch_with_the_reason(portal, alice, ask_remote):
    container = ask_remote(alice, devices=1)
    portal.registry[REMOTE].breaks_with = "connection reset by peer"
    carrying.carry_out_due()
    container.refresh_from_db()
    assert container.state == State.FAILED
    assert container.error["family"] == "image"
    assert not Assignment.objects.live().exists()


def test_two_people_share_one_pull(portal, alice, ask_remote):
    """Somebody else is pulling the image already when the launch gets there."""
    container = ask_remote(alice)
    portal.registry[REMOTE].seconds_per_step = 0.02
    begun, found = threading.Event(), []

    def pull():
        found.append(
            ensure_image(
                reference=REMOTE,
                on_progress=lambda _progress: begun.set(),
                is_cancelled=lambda: False,
                engine=portal,
            )
        )

    bobs = threading.Thread(target=pull)
    bobs.start()
    assert begun.wait(5)
    carrying.carry_out_due()
    bobs.join(5)

    container.refresh_from_db()
    assert container.state == State.RUNNING
    assert found[0].id == container.image_engine_id
    assert portal.calls.count("pull_image") == 1


def test_a_pull_ahead_of_time_ends_done_cancelled_failed_or_too_late(
    portal, remote_image, admin_person
):
    def pull(**values):
        operation = request_pull(image=remote_image, actor=admin_person)
        Operation.objects.filter(pk=operation.pk).update(**values)
        carrying.carry_out_due()
        operation.refresh_from_db()
        return operation

    late = pull(deadline_at=timezone.now() - dt.timedelta(seconds=1))
    assert (late.state, late.error["code"]) == ("failed", "timeout")
    assert pull(cancel_requested=True).state == "cancelled"
    portal.fail_next("pull_image", EngineError("Broken."))
    assert pull().error["message"] == "Broken."
    assert pull().state == "done"
    assert cancel_operation(operation=Operation.objects.last(), actor=None) is False


def test_a_pull_waits_for_an_engine_that_is_away(portal, remote_image, admin_person):
    request_pull(image=remote_image, actor=admin_person)
    portal.go_down()
    carrying.carry_out_due()
    assert Operation.objects.get().state == "queued"
    portal.come_up()
    due_again()
    assert Operation.objects.get().state == "done"


def test_a_signal_while_it_waits_stops_it(tmp_path):
    """The handler runs in the thread that waits: it may take no lock that this one holds."""
    environment = make_environment(fresh_database("sqlite", tmp_path), tmp_path)
    environment["DS01_ENGINE"] = "ds01portal.engine.fake.FakeEngine"
    environment["DS01_GPUS"] = "none"
    run_python("manage", "migrate", "-v", "0", environment=environment)
    process = start_python("workspaces.tests.players", "stop_often", "200", environment=environment)

    out, err = process.communicate(timeout=60)

    assert process.returncode == 0, err[-2000:]
    assert json.loads(out) == {"stopped": 200}
