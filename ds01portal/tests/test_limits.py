"""Limits have three states, and people write them in many ways."""

import pytest

from ds01portal.exceptions import InvalidInput
from ds01portal.limits import (
    UNLIMITED,
    UNSET,
    Unit,
    allows,
    format_exactly,
    format_limit,
    format_seconds,
    from_stored,
    parse_duration,
    parse_limit,
    to_json,
    to_stored,
)

GB = 1024**3


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1h", 3600),
        ("2h", 7200),
        ("24h", 86_400),
        ("0.5h", 1800),
        ("0.25h", 900),
        ("1.5h", 5400),
        ("1d", 86_400),
        ("7d", 604_800),
        ("0.5d", 43_200),
        ("1w", 604_800),
        ("2w", 1_209_600),
        ("30m", 1800),
        ("90m", 5400),
        ("60s", 60),
        ("3600s", 3600),
        ("60", 60),
        ("3600", 3600),
        ("null", -1),
        ("None", -1),
        ("NEVER", -1),
        ("indefinite", -1),
        ("", -1),
        (None, -1),
        ("  2h  ", 7200),
        ("1 h", 3600),
        ("2H", 7200),
        ("1D", 86_400),
        ("1d 1h", 90_000),
        ("0", 0),
    ],
)
def test_durations_are_read_as_people_write_them(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["invalid", "abc", "--", "1y", "-5m", "1h2", "h", "1e3", "٣h"])
def test_an_unreadable_duration_is_an_error_and_not_zero(text):
    with pytest.raises(InvalidInput, match="is not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (3600, "1h"),
        (7200, "2h"),
        (90_000, "1d 1h"),
        (86_400, "1d"),
        (1800, "30m"),
        (60, "1m"),
        (30, "30s"),
        (1, "1s"),
        (0, "0s"),
        (-1, "unlimited"),
        (-100, "unlimited"),
        (93_784, "1d 2h 3m 4s"),
    ],
)
def test_durations_are_written_in_units(seconds, text):
    assert format_seconds(seconds) == text
    if seconds >= 0:
        assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("32g", 32 * GB),
        ("32G", 32 * GB),
        ("32GB", 32 * GB),
        ("32 GiB", 32 * GB),
        ("512m", GB // 2),
        ("1.5g", GB * 3 // 2),
        ("1t", 1024 * GB),
        ("4096", 4096),
        ("10b", 10),
        ("unlimited", UNLIMITED),
        ("", UNSET),
        ("inherit", UNSET),
        ("0", 0),
    ],
)
def test_sizes_count_in_1024(text, size):
    assert parse_limit(text, Unit.BYTES) == size


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("-1", Unit.COUNT),
        ("1.5", Unit.COUNT),
        ("3g", Unit.COUNT),
        ("two", Unit.GPUEQ),
        ("nan", Unit.GPUEQ),
        ("inf", Unit.CORES),
        ("1,5", Unit.CORES),
        ("32x", Unit.BYTES),
        ("9" * 400, Unit.BYTES),
        ("9" * 20, Unit.COUNT),
        ("٣", Unit.COUNT),
    ],
)
def test_impossible_limits_are_refused_with_what_is_possible(text, unit):
    with pytest.raises(InvalidInput, match="is not a") as caught:
        parse_limit(text, unit, field="gpueq")
    assert "Write " in caught.value.hint
    assert caught.value.fields["field"] == "gpueq"


def test_three_states_survive_storage_and_json():
    for limit in (UNSET, UNLIMITED, 0, 1, 2.5):
        assert from_stored(to_stored(limit)) == limit
    assert (to_json(UNSET), to_json(UNLIMITED), to_json(0)) == (None, "unlimited", 0)


def test_unlimited_allows_all_zero_nothing_and_unset_nothing():
    assert allows(UNLIMITED, 10**9)
    assert allows(0, 0)
    assert not allows(0, 1)
    assert not allows(UNSET, 0)
    assert allows(1.0, 3 / 7 + 4 / 7)


@pytest.mark.parametrize(
    ("limit", "unit"),
    [
        (12_345_678_901, Unit.BYTES),
        (32 * GB, Unit.BYTES),
        (2 / 7, Unit.GPUEQ),
        (5400, Unit.SECONDS),
        (UNLIMITED, Unit.COUNT),
        (UNSET, Unit.COUNT),
        (0, Unit.BYTES),
    ],
)
def test_what_a_form_shows_is_read_back_unchanged(limit, unit):
    assert parse_limit(format_exactly(limit, unit), unit) == limit
    assert isinstance(format_limit(limit, unit), str)
