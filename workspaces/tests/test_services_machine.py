"""What is known of the machine: whether its engine answers, and since when it does not."""

from __future__ import annotations

import datetime as dt

import pytest
from django.utils import timezone

from ds01portal.exceptions import EngineError, EngineUnreachable
from ds01portal.models import Event, Update
from workspaces.models import Machine
from workspaces.services import machine

pytestmark = pytest.mark.django_db


def test_the_facts_of_the_engine_are_stored(fake_engine):
    found = machine.refresh_machine()
    assert (found.cpus, found.memory_bytes) == (64, 549_755_813_888)
    assert (found.engine_version, found.api_version) == ("27.0.0", "1.46")
    assert found.engine_root == "/var/lib/docker"
    assert found.live_restore
    assert "name=seccomp,profile=builtin" in found.security_options


def test_an_outage_is_told_once_with_its_beginning_and_its_end(fake_engine):
    machine.refresh_machine()
    fake_engine.go_down()
    down = machine.refresh_machine()
    assert not down.reachable
    assert "does not answer" in down.error
    assert down.cpus == 64
    machine.refresh_machine()
    assert machine.note_unreachable(error=EngineUnreachable("x")) is False
    assert Event.objects.filter(verb="unreachable").count() == 1
    assert Machine.current().unreachable_since == down.unreachable_since

    fake_engine.come_up()
    up = machine.refresh_machine()
    assert (up.reachable, up.unreachable_since, up.error) == (True, None, "")
    assert up.outage_from == down.unreachable_since
    assert up.outage_until is not None
    assert machine.note_reachable() is False
    assert Event.objects.filter(verb="reachable").count() == 1
    assert Update.objects.filter(subject="machine").count() == 2


def test_a_ping_without_an_answer_is_an_outage_too(fake_engine):
    machine.require_reachable(engine=fake_engine)
    assert Machine.current().reachable
    fake_engine.go_down()
    with pytest.raises(EngineUnreachable):
        machine.require_reachable(engine=fake_engine)
    assert not Machine.current().reachable


def test_a_worker_lives_for_thirty_seconds_after_it_was_seen(db):
    assert not machine.is_worker_alive(Machine.current())
    machine.note_worker()
    assert machine.is_worker_alive(Machine.current())
    Machine.objects.update(worker_seen_at=timezone.now() - dt.timedelta(seconds=31))
    assert not machine.is_worker_alive(Machine.current())


def test_free_disk_is_a_number_or_unknown(tmp_path):
    assert machine.free_disk_bytes(Machine(engine_root=str(tmp_path))) > 0
    assert machine.free_disk_bytes(Machine(engine_root=str(tmp_path / "none"))) is None


def test_what_simulated_devices_have_shown_is_kept_over_an_outage(fake_engine):
    Machine.current()
    Machine.objects.update(gpu_source="simulated", takes_devices=False, takes_memlock=False)
    machine.note_unreachable(error=EngineError("Away."))
    machine.note_reachable()
    assert (Machine.current().takes_devices, Machine.current().takes_memlock) == (False, False)
