"""Assignments: who holds which device, in the database's own words and in the services'."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import DatabaseError, IntegrityError, transaction
from django.utils import timezone

from ds01portal.exceptions import InvalidInput, NoFreeDevice, QuotaExceeded
from ds01portal.services.quotas import resolve_limits, set_limits
from workspaces.models import Assignment, Container, Device, ForeignUse
from workspaces.services import assignments, devices

pytestmark = pytest.mark.django_db


def row(owner, name="c"):
    return Container.objects.create(
        owner=owner, name=name, engine_name=f"{name}._.{owner.uid}", image_reference="x:1"
    )


def hold(device, container, state="bound"):
    return Assignment.objects.create(
        device=device, container=container, state=state, reserved_at=timezone.now()
    )


def reserve(container, count=1, uuids=()):
    return assignments.reserve_devices(
        container=container,
        count=count,
        uuids=uuids,
        limits=resolve_limits(person=container.owner),
        actor=container.owner,
    )


@pytest.fixture
def card(simulated_devices):
    return Device.objects.get(index=4, kind="gpu")


@pytest.fixture
def instances(card):
    return list(card.instances.order_by("mig_index"))


def test_the_database_lets_nobody_hold_a_held_device(simulated_devices, alice, bob):
    device = simulated_devices[0]
    hold(device, row(alice))
    for state in ("reserved", "bound"):
        with pytest.raises(IntegrityError), transaction.atomic():
            hold(device, row(bob, state), state)
    hold(device, row(bob, "history"), "released")


def test_a_released_row_cannot_come_back_to_life_on_a_held_device(simulated_devices, alice, bob):
    old = hold(simulated_devices[0], row(alice), "released")
    hold(simulated_devices[0], row(bob))
    with pytest.raises(IntegrityError), transaction.atomic():
        Assignment.objects.filter(pk=old.pk).update(state="bound")


def test_the_database_refuses_a_card_beside_its_instance(card, instances, alice, bob):
    hold(instances[0], row(alice))
    with pytest.raises(DatabaseError, match="assignment_card_exclusive"), transaction.atomic():
        hold(card, row(bob), "reserved")


def test_the_database_refuses_an_instance_beside_its_card(card, instances, alice, bob):
    hold(card, row(alice))
    for instance in instances:
        with pytest.raises(DatabaseError, match="assignment_card_exclusive"), transaction.atomic():
            hold(instance, row(bob, instance.profile), "reserved")


def test_an_update_cannot_go_round_the_trigger(card, instances, simulated_devices, alice, bob):
    hold(instances[0], row(alice))
    history = hold(card, row(bob, "old"), "released")
    with pytest.raises(DatabaseError, match="assignment_card_exclusive"), transaction.atomic():
        Assignment.objects.filter(pk=history.pk).update(state="bound")

    other = hold(simulated_devices[0], row(bob, "other"))
    with pytest.raises(DatabaseError, match="assignment_card_exclusive"), transaction.atomic():
        Assignment.objects.filter(pk=other.pk).update(device=card)


def test_an_update_to_an_instance_of_a_held_card_is_refused(card, instances, alice, bob):
    hold(card, row(alice))
    history = hold(instances[1], row(bob), "released")
    with pytest.raises(DatabaseError, match="assignment_card_exclusive"), transaction.atomic():
        Assignment.objects.filter(pk=history.pk).update(state="reserved")


def test_two_instances_of_a_card_live_side_by_side(instances, alice, bob):
    for instance, owner in zip(instances, (alice, bob), strict=True):
        hold(instance, row(owner))
    assert Assignment.objects.live().count() == 2
    assert assignments.find_double_holds() == []


def test_a_held_instance_can_still_be_written(instances, alice):
    held = hold(instances[0], row(alice), "reserved")
    Assignment.objects.filter(pk=held.pk).update(state="bound")
    Assignment.objects.filter(pk=held.pk).update(state="released")
    assert not Assignment.objects.live().exists()


def test_devices_are_given_out_in_numeric_order(settings, alice):
    settings.DS01_GPUS = "simulated:12xA100-40GB"
    devices.sync_devices()
    set_limits(subject=alice, values={"gpueq": 20, "devices_per_container": 20}, actor=None)

    chosen = reserve(row(alice), 11)

    assert [device.index for device in chosen] == list(range(11))
    held = assignments.held_devices(container=Container.objects.get())
    assert [device.index for device in held] == list(range(11))


@pytest.mark.parametrize(
    "change",
    [
        {"drained": True},
        {"usable": False, "unusable_reason": "ECC"},
        {"present": False},
    ],
)
def test_a_device_in_trouble_is_not_offered(simulated_devices, alice, change):
    first = simulated_devices[0]
    Device.objects.filter(pk=first.pk).update(**change)

    assert first not in reserve(row(alice, "any"))
    with pytest.raises(NoFreeDevice, match="GPU 0"):
        reserve(row(alice, "named"), uuids=(first.uuid,))


def test_a_device_that_a_foreign_container_uses_is_taken(simulated_devices, alice):
    first = simulated_devices[0]
    ForeignUse.objects.create(device=first, engine_id="f" * 64, engine_name="theirs")

    assert first not in reserve(row(alice, "any"))
    with pytest.raises(NoFreeDevice, match="GPU 0"):
        reserve(row(alice, "named"), uuids=(first.uuid,))


def test_foreign_use_of_a_card_takes_its_instances_and_the_other_way_round(card, instances):
    use = ForeignUse.objects.create(device=card, engine_id="f" * 64, engine_name="theirs")
    assert not set(instances) & set(Device.objects.free())
    use.delete()

    Device.objects.filter(pk=card.pk).update(usable=True)
    assert card in Device.objects.free()
    ForeignUse.objects.create(device=instances[0], engine_id="f" * 64, engine_name="theirs")
    free = set(Device.objects.free())
    assert card not in free
    assert instances[1] in free


def test_draining_a_split_card_drains_its_instances(card, instances, admin_person):
    devices.drain_device(device=card, reason="new cooler", actor=admin_person)
    assert not set(instances) & set(Device.objects.free())

    devices.undrain_device(device=card, actor=admin_person)
    assert set(instances) <= set(Device.objects.free())


def test_slices_count_as_sevenths(instances, alice):
    set_limits(subject=alice, values={"gpueq": 1.0, "devices_per_container": 3}, actor=None)
    reserve(row(alice, "a"), uuids=(instances[0].uuid,))
    assert assignments.used_gpueq(owner=alice) == pytest.approx(3 / 7)
    reserve(row(alice, "b"), uuids=(instances[1].uuid,))
    assert assignments.used_gpueq(owner=alice) == pytest.approx(1.0)

    with pytest.raises(QuotaExceeded) as refusal:
        reserve(row(alice, "c"))
    assert refusal.value.fields["limit"] == 1.0
    assert refusal.value.fields["used"] == pytest.approx(1.0)


def test_three_sevenths_and_four_sevenths_fit_into_one_whole(instances, alice):
    """A whole GPU first would leave nothing for the second device."""
    set_limits(subject=alice, values={"gpueq": 1.0, "devices_per_container": 2}, actor=None)
    assert reserve(row(alice), 2) == instances


def test_a_whole_gpu_comes_first_while_the_quota_carries_it(simulated_devices, alice):
    assert [device.kind for device in reserve(row(alice), 2)] == ["gpu", "gpu"]


def test_a_quota_of_less_than_a_gpu_gets_a_slice(instances, alice):
    set_limits(subject=alice, values={"gpueq": 0.5}, actor=None)
    assert reserve(row(alice)) == [instances[0]]


def test_when_only_what_is_too_large_is_free_the_refusal_says_so(instances, alice, bob):
    set_limits(subject=alice, values={"gpueq": 0.5}, actor=None)
    for instance in instances:
        hold(instance, row(bob, instance.profile))

    with pytest.raises(NoFreeDevice) as refusal:
        reserve(row(alice))

    assert refusal.value.message == "0 devices within your limit are free now, 1 asked for."
    assert refusal.value.fields == {"free": 0, "requested": 1}


def test_all_or_nothing_for_several(simulated_devices, alice, bob):
    set_limits(subject=alice, values={"gpueq": 9, "devices_per_container": 9}, actor=None)
    hold(simulated_devices[1], row(bob))
    wanted = tuple(device.uuid for device in simulated_devices[:3])

    with pytest.raises(NoFreeDevice, match="GPU 1 is not free"):
        reserve(row(alice), uuids=wanted)
    assert not Assignment.objects.filter(container__owner=alice).exists()

    with pytest.raises(NoFreeDevice) as refusal:
        reserve(row(alice, "all"), 6)
    assert refusal.value.fields == {"free": 5, "requested": 6}
    assert not Assignment.objects.filter(container__owner=alice).exists()


def test_named_devices_are_exactly_those(simulated_devices, alice):
    wanted = (simulated_devices[3].uuid, simulated_devices[1].uuid)
    assert [device.uuid for device in reserve(row(alice), uuids=wanted)] == list(wanted)


def test_a_device_named_twice_and_one_that_is_not_there_are_told(simulated_devices, alice):
    first = simulated_devices[0].uuid
    with pytest.raises(InvalidInput, match="twice"):
        reserve(row(alice, "twice"), uuids=(first, first))
    with pytest.raises(NoFreeDevice, match="GPU-nowhere"):
        reserve(row(alice, "nowhere"), uuids=("GPU-nowhere",))


def test_devices_per_container_is_a_limit_of_its_own(simulated_devices, alice):
    set_limits(subject=alice, values={"gpueq": 9}, actor=None)
    with pytest.raises(QuotaExceeded) as refusal:
        reserve(row(alice), 3)
    assert refusal.value.fields["resource"] == "devices_per_container"


def test_asking_for_none_reserves_none(simulated_devices, alice):
    assert reserve(row(alice), 0) == []
    assert not Assignment.objects.exists()


def test_what_a_foreign_container_of_hers_uses_counts_for_her_once(simulated_devices, alice):
    mine = row(alice)
    ForeignUse.objects.create(
        device=simulated_devices[0], engine_id="a" * 64, engine_name="mine", container=mine
    )
    ForeignUse.objects.create(
        device=simulated_devices[0], engine_id="b" * 64, engine_name="mine2", container=mine
    )
    assert assignments.used_gpueq(owner=alice) == 1.0
    hold(simulated_devices[0], mine)
    assert assignments.used_gpueq(owner=alice) == 1.0


def test_release_tells_what_was_freed_and_twice_is_no_trouble(simulated_devices, alice):
    container = row(alice)
    chosen = reserve(container, 2)
    freed = assignments.release_devices(container=container, reason="done", actor=alice)
    assert set(freed) == {device.uuid for device in chosen}
    assert assignments.release_devices(container=container, reason="done", actor=alice) == []
    assert set(Assignment.objects.values_list("release_reason", flat=True)) == {"done"}


def test_a_hold_of_a_container_without_an_owner_is_nobodys(simulated_devices):
    stray = Container.objects.create(name="x", engine_name="x", image_reference="x:1")
    assignments.hold_devices(container=stray)
    assert not Assignment.objects.exists()


def test_hold_time_moves_with_the_clock_it_is_given(simulated_devices, alice):
    container = row(alice)
    reserve(container)
    now = timezone.now() + dt.timedelta(days=1)
    assignments.hold_devices(container=container, now=now)
    assert Assignment.objects.get().hold_until == now + dt.timedelta(minutes=15)
