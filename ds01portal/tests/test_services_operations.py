"""The queue: one operation at a time for each thing, and one worker for each operation."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from ds01portal.exceptions import Busy, EngineError, EngineUnreachable
from ds01portal.models import Operation, Update
from ds01portal.services import operations
from ds01portal.services.operations import Cancelled, LostLease, Work, claim_operation

pytestmark = pytest.mark.django_db


def request(subject="1", kind="stop", **values):
    return operations.request_operation(
        kind=kind,
        subject_kind="container",
        subject_id=subject,
        subject_label="thesis",
        owner=None,
        actor=None,
        params={},
        **values,
    )


def claim(worker="w1"):
    return claim_operation(worker=worker)


def expire():
    Operation.objects.update(lease_until=timezone.now() - dt.timedelta(seconds=1))


def test_a_request_waits_in_the_queue():
    operation = request()
    assert operation.state == "queued"
    assert operation.is_live
    assert operation.attempt == 0
    assert operation.not_before <= timezone.now()


def test_a_launch_may_take_as_long_as_a_pull(settings):
    settings.DS01_PULL_TIMEOUT = 3600
    for kind, minutes in (("launch", 60), ("pull", 60), ("stop", 15)):
        operation = request(kind, kind)
        assert operation.deadline_at - operation.created_at == dt.timedelta(minutes=minutes)
    assert request("x", deadline=dt.timedelta(seconds=5)).deadline_at < timezone.now() + (
        dt.timedelta(seconds=6)
    )


def test_the_same_verb_twice_is_the_same_operation():
    assert request() == request()
    assert Operation.objects.count() == 1


def test_another_verb_meanwhile_is_busy_and_says_with_what():
    request()
    with pytest.raises(Busy) as refusal:
        request(kind="remove")
    assert refusal.value.message == "thesis is busy: stop is under way."
    assert refusal.value.fields["operation"] == "stop"
    assert Operation.objects.count() == 1


def test_after_its_end_the_next_verb_may_be_asked_for():
    request()
    Work(claim()).finish()
    assert request(kind="remove").state == "queued"
    assert operations.find_live_operation(subject_kind="container", subject_id="1").kind == "remove"


def test_the_database_itself_allows_one_live_operation_for_a_thing():
    operation = request()
    operation.pk = None
    operation._state.adding = True
    with pytest.raises(IntegrityError), transaction.atomic():
        Operation.objects.create(
            kind="remove",
            subject_kind="container",
            subject_id="1",
            created_at=operation.created_at,
            not_before=operation.created_at,
            deadline_at=operation.deadline_at,
        )


def test_the_oldest_is_claimed_first_and_each_once():
    first, second = request("1"), request("2")
    assert [claim(), claim("w2"), claim("w3")] == [first, second, None]
    first.refresh_from_db()
    assert (first.state, first.worker, first.attempt) == ("running", "w1", 1)
    assert first.started_at is not None
    assert first.lease_until > timezone.now()


def test_what_is_put_off_is_not_due():
    request()
    Operation.objects.update(not_before=timezone.now() + dt.timedelta(seconds=5))
    assert claim() is None


def test_a_lease_that_ran_out_is_claimed_by_the_next():
    request()
    first = claim()
    expire()
    second = claim("w2")
    assert (second.pk, second.worker, second.attempt) == (first.pk, "w2", 2)
    assert second.started_at == first.started_at


ENDS = {
    "finish": lambda work: work.finish(),
    "fail": lambda work: work.fail(EngineError("x")),
    "cancel": lambda work: work.cancel(),
    "postpone": lambda work: work.postpone(EngineUnreachable("x")),
    "undo": lambda work: work.begin_undo({}),
    "end undone": lambda work: work.end_undone(cancelled=False),
    "keep": lambda work: work.keep(),
    "phase": lambda work: work.enter_phase("create"),
    "report": lambda work: work.report(5, "x"),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("successor", ["w2", "w1"])
def test_a_zombie_cannot_write_even_if_its_successor_has_its_name(end, successor):
    request()
    zombie = Work(claim())
    expire()
    claim(successor)
    before = Operation.objects.values().get()

    with pytest.raises(LostLease):
        ENDS[end](zombie)

    assert Operation.objects.values().get() == before


def test_nothing_is_written_after_the_end():
    request()
    work = Work(claim())
    work.finish()
    for again in ENDS.values():
        with pytest.raises(LostLease):
            again(work)
    assert Operation.objects.get().state == "done"


def test_a_lease_is_kept():
    request()
    work = Work(claim())
    Operation.objects.update(lease_until=timezone.now() + dt.timedelta(seconds=1))
    work.keep()
    assert Operation.objects.get().lease_until > timezone.now() + dt.timedelta(seconds=10)
    assert claim("w2") is None


def test_progress_is_stored_four_times_a_second_and_at_the_end(monkeypatch):
    request()
    work = Work(claim())
    now = [100.0]
    monkeypatch.setattr(operations.time, "monotonic", lambda: now[0])
    for percent in range(10):
        work.report(percent, f"{percent}")
        now[0] += 0.1
    ticks = [one["percent"] for one in Update.objects.values_list("data", flat=True)]
    assert ticks == [0, 3, 6, 9]
    work.report(100, "all")
    assert Operation.objects.get().percent == 100


def test_texts_longer_than_a_row_can_hold_are_cut():
    request()
    work = Work(claim())
    work.enter_phase("pull", "x" * 400)
    assert len(Operation.objects.get().message) == 300
    work.report(1, "y" * 400)
    assert Operation.objects.get().message == "y" * 300
    work.postpone(EngineUnreachable("z" * 400))
    assert Operation.objects.get().message == "z" * 300


def test_a_cancel_is_heard_at_the_next_phase():
    operation = request()
    work = Work(claim())
    work.enter_phase("find")
    assert operations.cancel_operation(operation=operation, actor=None)
    assert work.is_cancelled()
    with pytest.raises(Cancelled):
        work.enter_phase("pull")
    assert Operation.objects.get().phase == "find"
    work.begin_undo({"message": "The launch was cancelled."})
    work.end_undone(cancelled=True)
    ended = Operation.objects.get()
    assert (ended.state, ended.message) == ("cancelled", "The launch was cancelled.")
    assert not ended.is_live


def test_a_cancel_makes_what_was_put_off_due_at_once():
    operation = request()
    Operation.objects.update(not_before=timezone.now() + dt.timedelta(hours=1))
    operations.cancel_operation(operation=operation, actor=None)
    assert claim() == operation


def test_what_has_ended_cannot_be_cancelled():
    operation = request()
    Work(claim()).finish()
    assert operations.cancel_operation(operation=operation, actor=None) is False
    assert not Operation.objects.get().cancel_requested


def test_past_its_deadline_it_is_cancelled_and_the_error_says_timeout():
    request()
    work = Work(claim())
    work.operation.deadline_at = timezone.now() - dt.timedelta(seconds=1)
    with pytest.raises(Cancelled):
        work.check_cancelled()
    error = operations.timeout_error(work.operation)
    assert (error.code, error.family) == ("timeout", "timeout")
    assert "stop took too long" in error.message
    assert error.hint


def test_a_failure_keeps_the_technical_cause_for_the_log():
    request()
    work = Work(claim())
    work.fail(EngineError("It broke.", cause="errno 5", hint="Again."))
    operation = Operation.objects.get()
    assert operation.state == "failed"
    assert operation.error["message"] == "It broke."
    assert operation.error["cause"] == "errno 5"
    assert operation.lease_until is None
    assert operation.finished_at is not None


def test_a_postponed_one_waits_and_is_claimed_again():
    request()
    work = Work(claim())
    work.enter_phase("create")
    work.postpone(EngineUnreachable("Away."))
    operation = Operation.objects.get()
    assert (operation.state, operation.phase, operation.message) == ("queued", "create", "Away.")
    assert claim() is None
    Operation.objects.update(not_before=timezone.now())
    assert claim().attempt == 2


def test_every_step_is_announced_to_the_owner(django_user_model):
    owner = django_user_model.objects.create(username="alice")
    operations.request_operation(
        kind="stop",
        subject_kind="container",
        subject_id="7",
        owner=owner,
        actor=owner,
        params={"reason": "x"},
    )
    work = Work(claim())
    work.enter_phase("stop")
    work.finish()
    ticks = list(Update.objects.values_list("subject", "owner_id"))
    assert ticks == [("container:7", owner.pk)] * 2
    assert Update.objects.last().data["state"] == "done"
    assert Operation.objects.get().params == {"reason": "x"}
    assert str(Operation.objects.get()) == "stop 7 (done)"
