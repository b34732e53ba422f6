"""The line that makes up GPUs: what it can say, and what it says when it cannot be read."""

from __future__ import annotations

import pytest

from workspaces.gpus import InventorySettingError, get_inventory
from workspaces.gpus.base import parse_profile
from workspaces.gpus.simulated import KNOWN_MODELS


def uuids(setting: str) -> list[str]:
    return [device.uuid for device in get_inventory(setting).read().devices]


def test_identities_survive_a_restart_and_cards_added_at_the_end() -> None:
    before = uuids("simulated:2xA100-40GB,1xH100-80GB:3g.40gb+4g.40gb")
    assert before == uuids("simulated: 2xa100-40gb , 1xh100-80gb:3G.40GB + 4g.40gb")
    assert uuids("simulated:2xA100-40GB,1xH100-80GB:3g.40gb+4g.40gb,2xA100-40GB")[:5] == before
    # Written down, since a changed identity would orphan every assignment kept in a database.
    assert before[0] == "GPU-43eef81f-84ed-5fa8-8d10-4a69264d5437"
    assert before[3] == "MIG-3d5f47e2-da7a-501c-b19a-c2be842a9079"


def test_a_card_keeps_its_identity_when_it_is_split_and_its_instances_are_new() -> None:
    whole = uuids("simulated:1xA100-40GB")
    thirds = uuids("simulated:1xA100-40GB:3g.20gb+3g.20gb")
    sevenths = uuids("simulated:1xA100-40GB:1g.5gb+3g.20gb")
    assert whole[0] == thirds[0] == sevenths[0]
    assert thirds[1] != thirds[2]
    assert thirds[1] != sevenths[1]


def test_every_card_of_an_entry_is_split_the_same_way() -> None:
    devices = get_inventory("simulated:2xA100-40GB:1g.5gb+2g.10gb").read().devices
    assert [device.slot for device in devices] == ["0", "0.0", "0.1", "1", "1.0", "1.1"]


@pytest.mark.parametrize("model", KNOWN_MODELS)
def test_every_known_model_can_be_named(model: str) -> None:
    (device,) = get_inventory(f"simulated:1x{model.lower()}").read().devices
    assert device.model == model


def test_any_other_model_is_taken_by_name_and_memory() -> None:
    (device,) = get_inventory("simulated:1xB300-SXM-288GB").read().devices
    assert (device.model, device.memory_bytes) == ("B300-SXM-288GB", 288 * 1024**3)


def test_rounded_profile_memory_fits_a_card_of_odd_size() -> None:
    assert len(uuids("simulated:1xH200-141GB:3g.71gb+4g.71gb")) == 3


def test_profile_attributes_stay_with_their_profile() -> None:
    devices = get_inventory("simulated:1xA100-40GB:1g.5gb+me+2g.10gb").read().devices
    assert [device.profile for device in devices] == ["", "1g.5gb+me", "2g.10gb"]


def test_nothing_simulated_looks_measured() -> None:
    inventory = get_inventory("simulated:1xT4-16GB")
    (usage,) = inventory.usage(uuids("simulated:1xT4-16GB")).values()
    assert usage.simulated
    assert (usage.gpu_percent, usage.memory_used_bytes, usage.pids) == (None, None, None)
    assert inventory.read().cuda_driver_version is None


@pytest.mark.parametrize(
    ("spec", "position", "problem"),
    [
        ("", 1, "A card is missing here"),
        ("1xT4-16GB,", 11, "A card is missing here"),
        ("0xA100-40GB", 1, "The count must be 1 to 64, not 0"),
        ("1xT4-16GB, 65xT4-16GB", 12, "The count must be 1 to 64, not 65"),
        ("40xT4-16GB,40xT4-16GB", 12, "more than 64 cards in all"),
        ("A100-40GB", 1, "does not begin with a count"),
        ("-1xA100-40GB", 1, "does not begin with a count"),
        ("4xA100", 3, "'A100' is no model with its memory"),
        ("4xA100-0GB", 3, "is no model with its memory"),
        ("4xA100 40GB", 3, "is no model with its memory"),
        ("2xT4-16GB:1g.5gb", 10, "T4-16GB cannot be split"),
        ("1xA100-40GB:", 13, "'' is no MIG profile"),
        ("1xA100-40GB:3g.20gb+half", 21, "'half' is no MIG profile"),
        ("1xA100-40GB:5g.20gb", 13, "'5g.20gb' is no MIG profile"),
        ("1xA100-40GB:1c.3g.20gb", 13, "is no MIG profile"),
        ("1xA100-40GB:4g.20gb+4g.20gb", 21, "8 compute slices, but a card has 7"),
        ("1xA100-40GB:3g.40gb+3g.40gb", 21, "80 GB in instances, but the card has 40 GB"),
    ],
)
def test_a_line_that_cannot_be_read_is_refused_where_it_goes_wrong(
    spec: str, position: int, problem: str
) -> None:
    with pytest.raises(InventorySettingError) as refused:
        get_inventory(f"simulated:{spec}")
    assert problem in refused.value.problem
    assert refused.value.position == position
    assert refused.value.text == spec
    assert "4xA100-40GB,1xH100-80GB:3g.40gb+4g.40gb" in str(refused.value)


@pytest.mark.parametrize("setting", ["", "NVML", "simulated", "cuda", "nvml:0"])
def test_any_other_setting_is_refused_and_never_guessed(setting: str) -> None:
    with pytest.raises(InventorySettingError, match="This names no GPU inventory"):
        get_inventory(setting)


def test_none_offers_nothing_and_knows_nothing() -> None:
    inventory = get_inventory("none")
    assert inventory.read().devices == ()
    assert inventory.read().source == "none"
    assert inventory.usage(["GPU-1"])["GPU-1"].gpu_percent is None


@pytest.mark.parametrize(
    ("name", "slices"),
    [("1g.10gb", 1), ("3g.20gb", 3), ("7g.40gb", 7), ("1g.12gb-me", 1), ("1g.10GB+me.all", 1)],
)
def test_a_profile_weighs_its_slices_of_seven(name: str, slices: int) -> None:
    profile = parse_profile(name)
    assert profile is not None
    assert profile.slices == slices
    assert profile.gpueq == slices / 7


@pytest.mark.parametrize("name", ["", "garbage", "3g", "8g.80gb", "0g.5gb", "1c.3g.20gb"])
def test_a_profile_that_cannot_be_counted_is_none(name: str) -> None:
    assert parse_profile(name) is None
