"""Device rows follow the inventory: what is gone, and what only cannot be seen."""

from __future__ import annotations

import pytest

from ds01portal.exceptions import EngineError, NoFreeDevice
from ds01portal.models import Event
from workspaces.gpus.base import DeviceInfo, DeviceKind, GPUInventory, Inventory, InventoryError
from workspaces.models import Assignment, Device, Machine
from workspaces.services import devices

pytestmark = pytest.mark.django_db

CARD = DeviceInfo(
    uuid="GPU-a", kind=DeviceKind.GPU, index=0, model="A100", memory_bytes=40 * 1024**3
)
SPLIT = DeviceInfo(
    uuid="GPU-b",
    kind=DeviceKind.GPU,
    index=1,
    model="H100",
    memory_bytes=80 * 1024**3,
    usable=False,
    reason="split into MIG instances",
)
SLICE = DeviceInfo(
    uuid="MIG-b0",
    kind=DeviceKind.MIG,
    index=1,
    mig_index=0,
    parent_uuid="GPU-b",
    model="H100",
    memory_bytes=40 * 1024**3,
    profile="3g.40gb",
    compute_slices=3,
    gpueq=3 / 7,
)


class Driver(GPUInventory):
    """The outermost edge: what a driver would answer."""

    source = "nvml"

    def __init__(self) -> None:
        self.answer = Inventory(
            source="nvml", driver_version="560.1", devices=(CARD, SPLIT, SLICE), message="3"
        )
        self.error = None

    def read(self) -> Inventory:
        if self.error:
            raise self.error
        return self.answer

    def usage(self, uuids):
        if self.error:
            raise self.error
        return {}

    def show(self, *listed, driver="560.1", message=""):
        self.answer = Inventory(
            source="nvml", driver_version=driver, devices=listed, message=message
        )
        return devices.sync_devices()


@pytest.fixture
def driver(monkeypatch):
    driver = Driver()
    monkeypatch.setattr("workspaces.services.devices.get_inventory", lambda _setting: driver)
    devices.sync_devices()
    return driver


def broken(info, reason):
    return DeviceInfo(
        uuid=info.uuid,
        kind=info.kind,
        index=info.index,
        model=info.model,
        memory_bytes=info.memory_bytes,
        usable=False,
        reason=reason,
    )


def test_a_first_look_adds_everything(driver):
    assert set(Device.objects.values_list("uuid", flat=True)) == {"GPU-a", "GPU-b", "MIG-b0"}
    assert set(Device.objects.offered().values_list("uuid", flat=True)) == {"GPU-a", "MIG-b0"}
    assert Device.objects.get(pk="MIG-b0").parent_id == "GPU-b"
    assert Machine.current().driver_version == "560.1"


def test_a_second_look_changes_nothing(driver):
    report = devices.sync_devices()
    assert (report.added, report.changed, report.vanished) == ([], [], [])


def test_a_device_that_vanished_is_not_offered_and_keeps_its_row_and_holder(driver, alice, ask):
    ask(alice, device_uuids=("GPU-a",))

    report = driver.show(SPLIT, SLICE)

    assert report.vanished == ["GPU-a"]
    assert not Device.objects.get(pk="GPU-a").present
    assert Assignment.objects.live().get().device_id == "GPU-a"
    assert Event.objects.filter(verb="vanish", subject_id="GPU-a").count() == 1
    assert driver.show(SPLIT, SLICE).vanished == []
    assert Event.objects.filter(verb="vanish", subject_id="GPU-a").count() == 1


def test_a_device_that_comes_back_is_offered_again(driver):
    driver.show(SPLIT, SLICE)
    driver.show(CARD, SPLIT, SLICE)
    assert Device.objects.get(pk="GPU-a") in Device.objects.offered()


def test_without_a_driver_devices_are_not_usable_and_not_gone(driver):
    report = driver.show(driver="", message="There is no NVIDIA driver.")

    assert report.vanished == []
    assert set(report.unusable) == {"GPU-a", "GPU-b", "MIG-b0"}
    device = Device.objects.get(pk="GPU-a")
    assert device.present
    assert device.unusable_reason == "There is no NVIDIA driver."
    assert not Device.objects.offered().exists()

    driver.show(CARD, SPLIT, SLICE)
    assert Device.objects.offered().count() == 2


def test_the_instances_of_a_card_in_trouble_are_not_usable_for_its_reason(driver):
    driver.show(CARD, broken(SPLIT, "fell off the bus"))

    piece = Device.objects.get(pk="MIG-b0")
    assert piece.present
    assert piece.unusable_reason == "fell off the bus"
    assert piece not in Device.objects.offered()


def test_the_instances_of_a_lost_card_are_gone_with_it(driver):
    report = driver.show(CARD)
    assert set(report.vanished) == {"GPU-b", "MIG-b0"}
    assert list(Device.objects.offered()) == [Device.objects.get(pk="GPU-a")]


def test_an_instance_that_was_taken_apart_is_gone_though_its_card_is_split(driver):
    assert driver.show(CARD, SPLIT).vanished == ["MIG-b0"]


def test_numbers_that_change_at_a_reboot_do_not_change_who_is_who(driver):
    moved = DeviceInfo(
        uuid="GPU-a", kind=DeviceKind.GPU, index=7, model="A100", memory_bytes=40 * 1024**3
    )
    assert driver.show(moved, SPLIT, SLICE).changed == ["GPU-a"]
    assert Device.objects.get(pk="GPU-a").index == 7


def test_a_look_that_could_not_be_finished_changes_nothing(driver):
    before = list(Device.objects.order_by("pk").values())
    driver.error = InventoryError("lost the driver")

    with pytest.raises(EngineError) as refusal:
        devices.sync_devices()

    assert refusal.value.cause == "lost the driver"
    assert list(Device.objects.order_by("pk").values()) == before
    assert devices.read_device_usage(["GPU-a"]) == {}


def test_a_dry_run_tells_and_writes_nothing(driver):
    driver.answer = Inventory(source="nvml", driver_version="1", devices=(CARD,), message="")
    report = devices.sync_devices(dry_run=True)
    assert set(report.as_dict()["vanished"]) == {"GPU-b", "MIG-b0"}
    assert Device.objects.filter(present=True).count() == 3
    assert Machine.current().driver_version == "560.1"


def test_a_card_without_a_name_of_its_own_gets_no_row(driver):
    nameless = DeviceInfo(
        uuid="GPU-unidentified-at-index-2",
        kind=DeviceKind.GPU,
        index=2,
        model="?",
        memory_bytes=0,
        usable=False,
        reason="does not answer",
    )
    assert driver.show(CARD, SPLIT, SLICE, nameless).added == []


def test_a_sync_keeps_a_drain(driver, admin_person):
    card = Device.objects.get(pk="GPU-a")
    devices.drain_device(device=card, reason="noise", actor=admin_person)
    driver.show(CARD, SPLIT, SLICE)
    card.refresh_from_db()
    assert (card.drained, card.drain_reason) == (True, "noise")
    assert Event.objects.get(verb="drain").actor == admin_person

    devices.undrain_device(device=card, actor=admin_person)
    assert card in Device.objects.offered()
    assert Event.objects.filter(verb="undrain").count() == 1


def test_what_was_learned_with_simulated_devices_does_not_count_for_real_ones(
    portal, alice, ask, driver
):
    """An engine without the toolkit refuses simulated devices; real ones are another matter."""
    Machine.objects.update(gpu_source="simulated", takes_devices=False)

    driver.show(CARD, SPLIT, SLICE)

    assert Machine.current().takes_devices is None
    assert ask(alice, device_uuids=("GPU-a",)).devices_requested == 1


def test_an_engine_that_cannot_hand_real_gpus_over_is_refused_until_it_was_started_anew(
    portal, alice, ask, driver
):
    from workspaces.services import machine

    Machine.objects.update(takes_devices=False)
    with pytest.raises(NoFreeDevice, match="cannot hand GPUs"):
        ask(alice, device_uuids=("GPU-a",))

    machine.note_unreachable(error=EngineError("Away."))
    machine.refresh_machine()

    assert ask(alice, device_uuids=("GPU-a",)).devices_requested == 1
