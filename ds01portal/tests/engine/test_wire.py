"""What engines write is read as they mean it, down to the odd corners."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01portal.engine import wire
from ds01portal.engine.base import Mount, Observed
from ds01portal.engine.dockerd.containers import parse_usage
from ds01portal.engine.progress import PullMeter, pull_error
from ds01portal.exceptions import EngineError


def described(**changes: Any) -> dict[str, Any]:
    raw: dict[str, Any] = {
        "Id": "f" * 64,
        "Name": "/box",
        "Created": "2026-01-02T03:04:05.123456789Z",
        "State": {"Status": "running", "StartedAt": "2026-01-02T03:04:06Z"},
        "Config": {"Env": None, "Labels": None},
        "HostConfig": {},
    }
    return raw | changes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02T03:04:05.123456789Z", (3, 4, 5, 123456)),
        ("2026-01-02T03:04:05.1Z", (3, 4, 5, 100000)),
        ("2026-01-02T03:04:05Z", (3, 4, 5, 0)),
        ("2026-01-02T05:04:05.5+02:00", (3, 4, 5, 500000)),
    ],
)
def test_times_are_read_to_the_microsecond_in_utc(text: str, expected: tuple[int, ...]) -> None:
    assert wire.parse_time(text) == dt.datetime(2026, 1, 2, *expected, tzinfo=dt.UTC)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "", None, "yesterday"])
def test_times_that_never_were_are_none(text: str | None) -> None:
    assert wire.parse_time(text) is None


def test_a_sparse_description_is_enough() -> None:
    seen = wire.parse_details(described())
    assert (seen.name, seen.state, seen.exit_code) == ("box", Observed.RUNNING, None)
    assert seen.labels == seen.environment == {}
    assert seen.mounts == seen.devices == ()


def test_a_state_nobody_knows_is_an_error_not_a_guess() -> None:
    with pytest.raises(EngineError):
        wire.parse_details(described(State={"Status": "hibernating"}))


@pytest.mark.parametrize(
    ("host", "environment", "expected"),
    [
        # Every request counts, not only the first.
        (
            {
                "DeviceRequests": [
                    {"DeviceIDs": ["GPU-a"], "Capabilities": [["gpu"]]},
                    {"DeviceIDs": ["GPU-b", "GPU-a"], "Driver": "nvidia"},
                ]
            },
            [],
            (("GPU-a", "GPU-b"), False, 0),
        ),
        ({"DeviceRequests": [{"Count": -1, "Capabilities": [["gpu"]]}]}, [], ((), True, 0)),
        ({"DeviceRequests": [{"Count": 2, "Capabilities": [["gpu"]]}]}, [], ((), False, 2)),
        ({"DeviceRequests": [{"DeviceIDs": ["all"], "Driver": "nvidia"}]}, [], ((), True, 0)),
        (
            {"DeviceRequests": [{"DeviceIDs": ["nvidia.com/gpu=GPU-a"], "Driver": "cdi"}]},
            [],
            (("GPU-a",), False, 0),
        ),
        ({"DeviceRequests": [{"Capabilities": [["tpu"]], "Count": -1}]}, [], ((), False, 0)),
        # The request overrides the variable.
        (
            {
                "Runtime": "nvidia",
                "DeviceRequests": [{"DeviceIDs": ["GPU-a"], "Capabilities": [["gpu"]]}],
            },
            ["NVIDIA_VISIBLE_DEVICES=all"],
            (("GPU-a",), False, 0),
        ),
        ({"Runtime": "nvidia"}, ["NVIDIA_VISIBLE_DEVICES=all"], ((), True, 0)),
        ({"Runtime": "nvidia"}, ["NVIDIA_VISIBLE_DEVICES=0, 1"], (("0", "1"), False, 0)),
        ({"Runtime": "nvidia"}, ["NVIDIA_VISIBLE_DEVICES=void"], ((), False, 0)),
        ({"Runtime": "nvidia"}, ["NVIDIA_VISIBLE_DEVICES=none"], ((), False, 0)),
        ({"Runtime": "nvidia"}, [], ((), False, 0)),
        # As in a shell, the last of two counts.
        (
            {"Runtime": "nvidia"},
            ["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_VISIBLE_DEVICES=void"],
            ((), False, 0),
        ),
        # Nearly all CUDA images say `all`; without NVIDIA's runtime nobody listens.
        ({"Runtime": "runc"}, ["NVIDIA_VISIBLE_DEVICES=all"], ((), False, 0)),
    ],
)
def test_devices_are_read_from_requests_or_from_nvidias_variable(
    host: dict[str, Any], environment: list[str], expected: tuple[Any, ...]
) -> None:
    raw = described(HostConfig=host, Config={"Env": environment})
    seen = wire.parse_details(raw)
    assert (seen.devices, seen.all_devices, seen.device_count) == expected


def test_cpus_come_from_either_way_to_limit_them() -> None:
    assert wire.parse_details(described(HostConfig={"NanoCpus": 2_500_000_000})).cpus == 2.5
    quota = {"CpuQuota": 150_000, "CpuPeriod": 100_000}
    assert wire.parse_details(described(HostConfig=quota)).cpus == 1.5


def test_only_bind_mounts_are_told() -> None:
    mounts = [
        {"Type": "bind", "Source": "/a", "Destination": "/b", "RW": False},
        {"Type": "volume", "Source": "/var/lib/x", "Destination": "/c", "RW": True},
    ]
    seen = wire.parse_details(described(Mounts=mounts)).mounts
    assert seen == (Mount(source="/a", target="/b", read_only=True),)


def test_a_container_that_others_link_to_keeps_its_own_name() -> None:
    row = {"Id": "f" * 64, "Names": ["/other/alias", "/box"], "State": "exited", "Created": 1}
    assert wire.parse_summary(row).name == "box"


def test_memory_leaves_out_the_file_cache_on_both_cgroup_versions() -> None:
    for key in ("total_inactive_file", "inactive_file"):
        sample = parse_usage(
            {
                "read": "2026-01-02T03:04:05Z",
                "memory_stats": {"usage": 100, "limit": 200, "stats": {key: 30}},
                "networks": {
                    "eth0": {"rx_bytes": 1, "tx_bytes": 2},
                    "eth1": {"rx_bytes": 10, "tx_bytes": 20},
                },
            }
        )
        assert (sample.memory_bytes, sample.memory_limit_bytes) == (70, 200)
        assert (sample.network_received_bytes, sample.network_sent_bytes) == (11, 22)
        assert sample.cpu_nanoseconds is None  # not told is not zero


# Pulls


def test_the_figure_counts_layers_of_unknown_size_by_the_mean_of_the_others() -> None:
    meter = PullMeter()
    assert meter.read().percent is None
    for name in ("a", "b"):
        meter.feed({"id": name, "status": "Pulling fs layer"})
    assert meter.read().percent is None
    meter.feed({"id": "a", "status": "Downloading", "progressDetail": {"current": 5, "total": 10}})
    assert meter.read().percent == 17.5  # half of 0.7 of one of two layers
    meter.feed({"id": "a", "status": "Pull complete"})
    assert meter.read().percent == 50.0
    assert meter.read().message == "1 of 2 layers"


def test_layers_that_are_there_already_do_not_count() -> None:
    meter = PullMeter()
    meter.feed({"id": "latest", "status": "Pulling from ds01/x"})
    meter.feed({"id": "a", "status": "Already exists"})
    meter.feed({"id": "b", "status": "Pulling fs layer"})
    meter.feed({"id": "b", "status": "Downloading", "progressDetail": {"current": 1, "total": 1}})
    assert meter.read().percent == 70.0


messages = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.sampled_from("abc"),
            "status": st.sampled_from(
                [
                    "Pulling fs layer",
                    "Waiting",
                    "Downloading",
                    "Verifying Checksum",
                    "Download complete",
                    "Extracting",
                    "Pull complete",
                    "Already exists",
                    "Retrying in 5 seconds",
                ]
            ),
            "progressDetail": st.fixed_dictionaries(
                {}, optional={"current": st.integers(0, 100), "total": st.integers(0, 80)}
            ),
        }
    ),
    max_size=40,
)


@given(messages)
def test_whatever_the_engine_says_the_figure_never_goes_back(said: list[dict[str, Any]]) -> None:
    meter, last = PullMeter(), -1.0
    for message in said:
        meter.feed(message)
        now = meter.read().percent
        if now is None:
            assert last == -1.0
        else:
            assert last <= now <= 100.0
            last = now


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("manifest for x:1 not found: manifest unknown: manifest unknown", "not-found"),
        (
            "pull access denied for x, repository does not exist or may require 'docker login'",
            "not-found",
        ),
        ('Get "https://r/v2/": dial tcp: lookup r: no such host', "network"),
        ("net/http: TLS handshake timeout", "network"),
        ("write /var/lib/docker/tmp/x: no space left on device", "no-space"),
        ("unauthorized: authentication required", "auth"),
        ("toomanyrequests: You have reached your pull rate limit", "rate-limit"),
        ("something else", "other"),
    ],
)
def test_a_failed_pull_says_why_in_plain_words(text: str, reason: str) -> None:
    error = pull_error("x:1", text)
    assert error.fields["reason"] == reason
    assert error.cause == text
    assert text not in error.message
