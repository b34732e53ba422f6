"""Rows: what the database itself keeps true, and who sees what."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction
from django.utils import timezone

from workspaces.models import Assignment, Container, Device, ForeignUse, Machine, SharedFolder

pytestmark = pytest.mark.django_db

State = Container.State


def make(owner, name="c", **values):
    return Container.objects.create(
        owner=owner,
        name=name,
        engine_name=values.pop("engine_name", f"{name}._.{owner.uid if owner else 0}"),
        image_reference="lab/image:1",
        **values,
    )


def test_one_living_container_has_a_name(alice):
    make(alice, state=State.FAILED)
    make(alice, state=State.REMOVED)
    living = make(alice)
    with pytest.raises(IntegrityError), transaction.atomic():
        make(alice)
    Container.objects.filter(pk=living.pk).update(state=State.REMOVED)
    make(alice)


def test_one_request_has_one_container(alice):
    make(alice, "a", request_key="k")
    with pytest.raises(IntegrityError), transaction.atomic():
        make(alice, "b", request_key="k")
    make(alice, "c"), make(alice, "d")


def test_people_see_their_own_and_admins_everything(alice, bob, admin_person):
    mine, stray = make(alice), make(None, "stray")
    assert list(Container.objects.visible_to(alice)) == [mine]
    assert list(Container.objects.visible_to(bob)) == []
    assert set(Container.objects.visible_to(admin_person)) == {mine, stray}


def test_what_counts_and_what_works_is_told_by_the_state(alice):
    for state in State.values:
        make(alice, state, state=state)
    assert not Container.objects.live().filter(state="removed").exists()
    assert Container.objects.live().count() == len(State.values) - 1
    assert Container.objects.counted().count() == len(State.values) - 2
    active = set(Container.objects.active().values_list("state", flat=True))
    assert active.isdisjoint({"created", "stopped", "failed", "removed", "removing"})
    assert {"launching", "starting", "running", "paused"} <= active


def test_every_transient_state_is_the_target_of_a_verb_or_a_launch():
    targets = {target for _states, target in Container.TRANSITIONS.values()}
    assert targets | {State.LAUNCHING} == set(Container.TRANSIENT_STATES)


def test_a_container_describes_itself(alice):
    container = make(alice, framework="Pytorch", version="2.8.0", state=State.RUNNING)
    assert str(container) == f"c._.{alice.uid}"
    assert container.image_label == "Pytorch 2.8.0"
    assert make(alice, "d").image_label == "lab/image:1"
    assert container.offered_verbs() == ("stop", "restart", "pause", "remove")
    assert not container.is_busy
    assert Container(state=State.STOPPING).is_busy
    assert str(container.pk) in container.get_absolute_url()
    described = container.as_dict()
    assert (described["owner"], described["state"], described["error"]) == (
        "alice",
        "running",
        None,
    )
    assert make(None, "x").as_dict()["owner"] is None


def test_the_machine_is_one_row():
    assert Machine.current() == Machine.current()
    with pytest.raises(IntegrityError), transaction.atomic():
        Machine.objects.create(id=2)
    assert str(Machine.current()) == "this machine"
    assert Machine(gpu_source="simulated").is_simulated


def test_devices_are_in_numeric_order_and_have_numbers_for_people(simulated_devices):
    assert [device.slot for device in simulated_devices] == ["0", "1", "2", "3", "4.0", "4.1"]
    assert simulated_devices[0].label == "GPU 0"
    assert simulated_devices[4].label == "MIG 4.0"
    assert str(simulated_devices[0]).startswith("GPU 0 (A100")
    card = Device.objects.get(index=4, kind="gpu")
    assert {device.card_uuid for device in simulated_devices[4:]} == {card.card_uuid}


def test_a_device_that_is_held_cannot_be_deleted(simulated_devices, alice):
    from django.db.models import ProtectedError

    Assignment.objects.create(
        device=simulated_devices[0], container=make(alice), reserved_at=timezone.now()
    )
    with pytest.raises(ProtectedError):
        simulated_devices[0].delete()


def test_a_foreign_container_is_noted_once_for_each_device(simulated_devices):
    use = ForeignUse.objects.create(
        device=simulated_devices[0], engine_id="a" * 64, engine_name="theirs"
    )
    assert str(use).endswith("used by theirs")
    with pytest.raises(IntegrityError), transaction.atomic():
        ForeignUse.objects.create(
            device=simulated_devices[0], engine_id="a" * 64, engine_name="theirs"
        )


def test_shared_folders_are_for_everybody_or_for_groups(alice, charlie):
    everybody = SharedFolder.objects.create(name="all", purpose="data", path="/x")
    some = SharedFolder.objects.create(name="some", purpose="models", path="/y")
    off = SharedFolder.objects.create(name="off", purpose="data", path="/z", enabled=False)
    some.groups.set(Group.objects.filter(name__in=["researcher", "faculty"]))
    charlie.groups.add(Group.objects.get(name="faculty"))

    assert list(SharedFolder.objects.visible_to(alice)) == [everybody]
    assert list(SharedFolder.objects.visible_to(charlie)) == [everybody, some]
    assert (str(off), off.target, some.target) == ("off", "/data", "/models")
