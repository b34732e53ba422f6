"""System checks of GPUs and networks."""

from __future__ import annotations

import pytest
from django.core.checks import registry

from workspaces import checks


@pytest.mark.parametrize(
    "text", ["", "cuda", "simulated:", "simulated:4A100", "simulated:1xT4-16GB:1g.5gb", "NVML"]
)
def test_a_gpu_setting_that_cannot_be_read_is_told(settings, text):
    settings.DS01_GPUS = text
    (found,) = checks.check_gpu_setting()
    assert found.id == "workspaces.E001"
    assert found.msg.startswith("DS01_GPUS cannot be read")
    assert "nvml" in found.hint


@pytest.mark.parametrize("text", ["nvml", "none", "simulated:1xA100-40GB"])
def test_a_good_gpu_setting_asks_no_hardware(settings, text):
    settings.DS01_GPUS = text
    assert checks.check_gpu_setting() == []


@pytest.mark.parametrize(
    ("addresses", "prefix"),
    [
        ("", 27),
        ("10.213.0.1/16", 27),
        ("10.213.0.0/33", 27),
        ("10.213.0.0/27", 27),
        ("10.213.0.0/28", 27),
        ("10.213.0.0/16", 30),
        ("fd00::/64", 80),
        ("networks", 27),
    ],
)
def test_a_range_that_gives_no_networks_is_told(settings, addresses, prefix):
    settings.DS01_NETWORK_RANGE, settings.DS01_NETWORK_PREFIX = addresses, prefix
    (found,) = checks.check_network_range()
    assert found.id == "workspaces.E002"
    assert str(prefix) in found.msg
    assert found.hint


def test_a_good_range_is_fine(settings):
    settings.DS01_NETWORK_RANGE, settings.DS01_NETWORK_PREFIX = "10.0.0.0/8", 29
    assert checks.check_network_range() == []


def test_the_checks_are_registered():
    registered = registry.registry.registered_checks
    assert checks.check_gpu_setting in registered
    assert checks.check_network_range in registered
