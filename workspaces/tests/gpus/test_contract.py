"""Hold every inventory to the same promises: the simulated one, and NVML through the binding."""

from __future__ import annotations

import dataclasses

import pytest

from workspaces.gpus import DeviceInfo, DeviceKind, GPUInventory, get_inventory
from workspaces.tests.gpus.stub import NvmlStub

#: Twelve whole cards, then one cut in two: the same machine, told to each inventory its own way.
SIMULATED_MACHINE = "simulated:12xA100-40GB,1xH100-80GB:3g.40gb+4g.40gb"


def nvml_machine() -> str:
    cards = [f"gpu GPU-{i:08x} 40960 NVIDIA A100-SXM4-40GB\nmig 0" for i in range(12)]
    return "\n".join(
        [
            "driver 570.86.15",
            "cuda 12080",
            *cards,
            "gpu GPU-0000000c 81920 NVIDIA H100 80GB HBM3",
            "mig 1",
            "instance 0 MIG-00000000 3 3 40448 NVIDIA H100 80GB HBM3 MIG 3g.40gb",
            "instance 1 MIG-00000001 4 4 40448 NVIDIA H100 80GB HBM3 MIG 4g.40gb",
        ]
    )


@pytest.fixture(params=["simulated", "nvml"])
def inventory(request: pytest.FixtureRequest) -> GPUInventory:
    if request.param == "simulated":
        return get_inventory(SIMULATED_MACHINE)
    stub: NvmlStub = request.getfixturevalue("nvml")
    stub.shows(nvml_machine())
    return get_inventory("nvml")


class TestInventoryContract:
    def test_it_says_where_its_devices_come_from(self, inventory: GPUInventory) -> None:
        read = inventory.read()
        assert read.source == inventory.source
        assert read.message
        assert not read.driver_missing

    def test_devices_come_in_numeric_order_with_instances_after_their_card(
        self, inventory: GPUInventory
    ) -> None:
        slots = [device.slot for device in inventory.read().devices]
        assert slots == [*map(str, range(13)), "12.0", "12.1"]

    def test_every_device_has_its_own_uuid_of_its_kind(self, inventory: GPUInventory) -> None:
        devices = inventory.read().devices
        assert len({device.uuid for device in devices}) == 15
        for device in devices:
            assert device.uuid.startswith("MIG-" if device.kind is DeviceKind.MIG else "GPU-")
            assert device.identified

    def test_reading_again_tells_the_same(self, inventory: GPUInventory) -> None:
        assert inventory.read() == inventory.read()

    def test_a_split_card_is_not_handed_out_but_its_instances_are(
        self, inventory: GPUInventory
    ) -> None:
        *whole, card, first, second = inventory.read().devices
        assert all(device.usable for device in whole)
        assert (card.usable, card.reason) == (False, "split into MIG instances")
        assert first.usable
        assert second.usable
        assert first.parent_uuid == second.parent_uuid == card.uuid
        assert len(inventory.read().usable_devices) == 14

    def test_weights_are_one_for_a_card_and_sevenths_for_an_instance(
        self, inventory: GPUInventory
    ) -> None:
        card, *_, first, second = inventory.read().devices
        assert (card.gpueq, card.compute_slices, card.profile) == (1.0, 7, "")
        assert (first.gpueq, first.compute_slices, first.profile) == (3 / 7, 3, "3g.40gb")
        assert (second.gpueq, second.compute_slices, second.profile) == (4 / 7, 4, "4g.40gb")

    def test_sizes_and_models_are_told(self, inventory: GPUInventory) -> None:
        devices = inventory.read().devices
        assert devices[0].memory_bytes == 40 * 1024**3
        assert "A100" in devices[0].model
        assert 39 * 1024**3 < devices[-1].memory_bytes <= 40 * 1024**3
        assert devices[-1].model == devices[-3].model

    def test_usage_answers_for_each_device_asked_and_a_stranger_is_unknown(
        self, inventory: GPUInventory
    ) -> None:
        known = inventory.read().devices[0]
        usage = inventory.usage([known.uuid, "GPU-nowhere"])
        assert set(usage) == {known.uuid, "GPU-nowhere"}
        assert usage[known.uuid].memory_total_bytes == known.memory_bytes
        stranger = dataclasses.asdict(usage["GPU-nowhere"])
        assert stranger.pop("uuid") == "GPU-nowhere"
        assert stranger.pop("simulated") is (inventory.source == "simulated")
        assert set(stranger.values()) == {None}

    def test_what_cannot_be_measured_is_unknown_and_not_idle(self, inventory: GPUInventory) -> None:
        instance = inventory.read().devices[-1]
        usage = inventory.usage([instance.uuid])[instance.uuid]
        assert usage.gpu_percent is None
        assert usage.power_w is None

    def test_usage_of_nothing_is_nothing(self, inventory: GPUInventory) -> None:
        assert inventory.usage([]) == {}


def test_a_device_cannot_be_unusable_without_a_reason() -> None:
    with pytest.raises(ValueError, match="an unusable device has a reason"):
        DeviceInfo(
            uuid="GPU-1", kind=DeviceKind.GPU, index=0, model="A", memory_bytes=1, usable=False
        )


def test_an_instance_cannot_be_without_its_card() -> None:
    with pytest.raises(ValueError, match="has a parent"):
        DeviceInfo(uuid="MIG-1", kind=DeviceKind.MIG, index=0, model="A", memory_bytes=1)
