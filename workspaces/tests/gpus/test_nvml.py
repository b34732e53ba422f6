"""What the NVIDIA driver can say, good and bad, through the real binding."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pynvml  # type: ignore[import-untyped, unused-ignore]
import pytest

from workspaces.gpus import DeviceInfo, InventoryError, get_inventory
from workspaces.tests.gpus.stub import VARIABLE, NvmlStub

A100 = "40960 NVIDIA A100-SXM4-40GB"

#: Four cards: whole; cut in three, with a gap in the places; cut in none; fallen off the bus.
MIXED = f"""
driver 535.104.05
cuda 12020
gpu GPU-0 {A100}
mig 0
util 87
mem_used 1024
temp 61
power 212500
pid 4242
pid 77
gpu GPU-1 {A100}
mig 1
instance 0 MIG-a 3 3 19968 NVIDIA A100-SXM4-40GB MIG 3g.20gb
mem_used 512
instance 2 MIG-b 2 2 9856 NVIDIA A100-SXM4-40GB MIG 2g.10gb
instance 5 MIG-c 1 1 4864 NVIDIA A100-SXM4-40GB MIG 1g.5gb
gpu GPU-2 {A100}
mig 1
gpu GPU-3 {A100}
fail nvmlDeviceGetMemoryInfo 15
"""


def devices() -> dict[str, DeviceInfo]:
    return {device.uuid: device for device in get_inventory("nvml").read().devices}


def test_whole_split_empty_and_lost_cards_live_on_one_machine(nvml: NvmlStub) -> None:
    nvml.shows(MIXED)
    read = get_inventory("nvml").read()
    assert read.driver_version == "535.104.05"
    assert read.cuda_driver_version == (12, 2)
    assert [(device.uuid, device.usable) for device in read.devices] == [
        ("GPU-0", True),
        ("GPU-1", False),
        ("MIG-a", True),
        ("MIG-b", True),
        ("MIG-c", True),
        ("GPU-2", False),
        ("GPU-3", False),
    ]
    found = devices()
    assert found["GPU-2"].reason.startswith("MIG mode is on but no instances are made")
    assert found["GPU-3"].reason.startswith("lost:")
    assert found["GPU-3"].model == "NVIDIA A100-SXM4-40GB"
    assert found["MIG-b"].slot == "1.2"
    assert found["MIG-c"].gpueq == 1 / 7


def test_a_machine_whose_first_card_is_not_split_still_shows_the_others_instances(
    nvml: NvmlStub,
) -> None:
    nvml.shows(
        f"driver 1\ngpu GPU-0 {A100}\ngpu GPU-1 {A100}\nmig 1\n"
        "instance 0 MIG-a 7 7 40000 NVIDIA A100-SXM4-40GB MIG 7g.40gb\n"
    )
    assert devices()["MIG-a"].gpueq == 1.0


def test_a_card_that_does_not_even_tell_its_uuid_is_listed_with_a_stand_in(
    nvml: NvmlStub,
) -> None:
    nvml.shows(
        f"driver 1\ngpu GPU-0 {A100}\nfail nvmlDeviceGetHandleByIndex_v2 15\ngpu GPU-1 {A100}\n"
    )
    lost, other = get_inventory("nvml").read().devices
    assert not lost.identified
    assert not lost.usable
    assert lost.reason.startswith("lost:")
    assert (other.uuid, other.index, other.usable) == ("GPU-1", 1, True)


@pytest.mark.parametrize(
    ("code", "reason"),
    [(16, "needs a reset"), (999, "the driver cannot read it: Unknown Error")],
)
def test_a_card_in_trouble_is_listed_with_its_trouble(
    nvml: NvmlStub, code: int, reason: str
) -> None:
    nvml.shows(f"driver 1\ngpu GPU-0 {A100}\nfail nvmlDeviceGetMigMode {code}\n")
    (device,) = get_inventory("nvml").read().devices
    assert not device.usable
    assert device.reason.startswith(reason)


def test_a_card_lost_while_its_instances_are_read_hands_out_none_of_them(nvml: NvmlStub) -> None:
    nvml.shows(MIXED.replace("mem_used 512", "fail nvmlDeviceGetMemoryInfo 15"))
    found = devices()
    assert found["GPU-1"].reason.startswith("lost:")
    assert "MIG-a" not in found
    assert "MIG-b" not in found
    assert found["GPU-0"].usable


def test_a_profile_that_cannot_be_counted_is_listed_but_never_handed_out(nvml: NvmlStub) -> None:
    nvml.shows(
        f"driver 1\ngpu GPU-0 {A100}\nmig 1\n"
        "instance 0 MIG-a 3 1 19968 NVIDIA A100-SXM4-40GB MIG 1c.3g.20gb\n"
    )
    device = devices()["MIG-a"]
    assert not device.usable
    assert "unknown MIG profile '1c.3g.20gb'" in device.reason
    assert (device.compute_slices, device.gpueq) == (0, 1.0)


@pytest.mark.parametrize(
    ("slices", "compute", "mib", "profile"),
    [(3, 3, 19968, "3g.20gb"), (1, 1, 4864, "1g.5gb"), (3, 1, 19968, "1c.3g.20gb")],
)
def test_a_bare_instance_name_is_made_up_for_from_its_attributes(
    nvml: NvmlStub, slices: int, compute: int, mib: int, profile: str
) -> None:
    nvml.shows(
        f"driver 1\ngpu GPU-0 {A100}\nmig 1\n"
        f"instance 0 MIG-a {slices} {compute} {mib} NVIDIA A100\n"
    )
    assert devices()["MIG-a"].profile == profile


def test_an_instance_that_tells_neither_name_nor_attributes_is_unusable(nvml: NvmlStub) -> None:
    nvml.shows(
        f"driver 1\ngpu GPU-0 {A100}\nmig 1\ninstance 0 MIG-a 3 3 19968 NVIDIA A100\n"
        "fail nvmlDeviceGetAttributes_v2 3\n"
    )
    assert not devices()["MIG-a"].usable


def test_an_old_driver_without_mig_or_cuda_version_shows_whole_cards(nvml: NvmlStub) -> None:
    nvml.shows(f"driver 418.1\nfail nvmlDeviceGetMigMode 13\ngpu GPU-0 {A100}\nmig 1\n")
    read = get_inventory("nvml").read()
    assert read.cuda_driver_version is None
    assert [device.usable for device in read.devices] == [True]


def test_a_driver_that_sees_no_card_is_not_a_missing_driver(nvml: NvmlStub) -> None:
    nvml.shows("driver 570.1\n")
    read = get_inventory("nvml").read()
    assert read.devices == ()
    assert not read.driver_missing


def test_usage_is_measured_and_what_a_split_card_cannot_tell_is_unknown(nvml: NvmlStub) -> None:
    nvml.shows(MIXED)
    usage = get_inventory("nvml").usage(["GPU-0", "MIG-a", "GPU-3"])
    whole, instance, lost = usage["GPU-0"], usage["MIG-a"], usage["GPU-3"]
    assert (whole.gpu_percent, whole.temperature_c, whole.power_w) == (87.0, 61.0, 212.5)
    assert (whole.memory_used_bytes, whole.memory_total_bytes) == (1024**3, 40 * 1024**3)
    assert whole.pids == (77, 4242)
    assert (instance.gpu_percent, instance.memory_used_bytes) == (None, 512 * 1024**2)
    assert instance.pids == ()
    assert lost.memory_used_bytes is None
    assert not whole.simulated


def test_processes_that_may_not_be_listed_are_unknown_and_not_absent(nvml: NvmlStub) -> None:
    nvml.shows(f"driver 1\nfail nvmlDeviceGetComputeRunningProcesses_v3 4\ngpu GPU-0 {A100}\n")
    assert get_inventory("nvml").usage(["GPU-0"])["GPU-0"].pids is None


def test_an_idle_card_is_a_measured_zero(nvml: NvmlStub) -> None:
    nvml.shows(f"driver 1\ngpu GPU-0 {A100}\nutil 0\n")
    assert get_inventory("nvml").usage(["GPU-0"])["GPU-0"].gpu_percent == 0.0


def test_no_driver_is_a_state_that_is_told(nvml: NvmlStub) -> None:
    nvml.shows("fail nvmlInitWithFlags 9\n")
    read = get_inventory("nvml").read()
    assert (read.source, read.devices, read.driver_missing) == ("nvml", (), True)
    assert read.message.startswith("No NVIDIA driver is loaded")
    assert get_inventory("nvml").usage(["GPU-0"])["GPU-0"].gpu_percent is None


def test_no_library_is_no_driver_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def find_nothing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "CDLL", find_nothing)
    read = get_inventory("nvml").read()
    assert read.driver_missing
    assert "NVML Shared Library Not Found" in read.message


@pytest.mark.parametrize("code", [4, 18, 999])
def test_a_driver_that_is_there_but_cannot_be_asked_is_an_error(nvml: NvmlStub, code: int) -> None:
    nvml.shows(f"fail nvmlInitWithFlags {code}\n")
    with pytest.raises(InventoryError, match="cannot be asked"):
        get_inventory("nvml").read()
    with pytest.raises(InventoryError, match="cannot be asked"):
        get_inventory("nvml").usage(["GPU-0"])


@pytest.mark.parametrize(
    ("function", "code"),
    [
        ("nvmlSystemGetDriverVersion", 999),
        ("nvmlDeviceGetCount_v2", 9),
        ("nvmlDeviceGetHandleByIndex_v2", 1),
        ("nvmlDeviceGetMigMode", 18),
        ("nvmlDeviceGetUUID", 9),
    ],
)
def test_a_driver_lost_midway_is_an_error_and_never_a_shorter_list(
    nvml: NvmlStub, function: str, code: int
) -> None:
    nvml.shows(f"driver 1\nfail {function} {code}\ngpu GPU-0 {A100}\ngpu GPU-1 {A100}\n")
    with pytest.raises(InventoryError, match="stopped answering"):
        get_inventory("nvml").read()
    assert nvml.open_sessions == 0


def test_a_driver_lost_while_measuring_is_an_error(nvml: NvmlStub) -> None:
    nvml.shows(f"driver 1\nfail nvmlDeviceGetUtilizationRates 1\ngpu GPU-0 {A100}\n")
    with pytest.raises(InventoryError, match="stopped answering"):
        get_inventory("nvml").usage(["GPU-0"])
    assert nvml.open_sessions == 0


def test_a_reloaded_driver_is_found_at_the_next_read(nvml: NvmlStub) -> None:
    inventory = get_inventory("nvml")
    nvml.shows("fail nvmlInitWithFlags 9\n")
    assert inventory.read().driver_missing
    nvml.shows(MIXED)
    assert len(inventory.read().devices) == 7
    inventory.usage(["GPU-0"])
    assert nvml.open_sessions == 0


def test_a_fresh_process_finds_the_library_by_its_name(nvml: NvmlStub) -> None:
    nvml.shows(MIXED)
    program = (
        "from workspaces.gpus import get_inventory\n"
        "print(*(each.uuid for each in get_inventory('nvml').read().devices))"
    )
    environment = dict(os.environ) | {
        "LD_LIBRARY_PATH": str(nvml.library.parent),
        VARIABLE: str(nvml.machine),
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout.split() == ["GPU-0", "GPU-1", "MIG-a", "MIG-b", "MIG-c", "GPU-2", "GPU-3"]
