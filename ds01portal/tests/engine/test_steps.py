"""What goes in and out of a build step, byte by byte."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01portal.engine import steps, wire
from ds01portal.engine.dockerd.layers import parse_layers_size


@given(
    pieces=st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40)), max_size=12),
    cuts=st.lists(st.integers(min_value=1, max_value=30), max_size=40),
)
def test_output_is_the_same_however_the_stream_is_cut(
    pieces: list[tuple[int, bytes]], cuts: list[int]
) -> None:
    stream = b"".join(struct.pack(">BxxxL", kind, len(data)) + data for kind, data in pieces)
    frames, said, rest = steps.Frames(), b"", stream
    for cut in [*cuts, len(stream)]:
        said += frames.feed(rest[:cut])
        rest = rest[cut:]
    assert said == b"".join(data for _, data in pieces)
    assert frames.is_whole


def test_a_part_of_a_frame_is_handed_on_before_the_rest_comes() -> None:
    frames = steps.Frames()
    assert frames.feed(struct.pack(">BxxxL", 1, 10) + b"half") == b"half"
    assert not frames.is_whole
    assert frames.feed(b"of it!") == b"of it!"
    assert frames.is_whole
    frames.feed(b"\1\0\0")
    assert not frames.is_whole


def test_variables_end_with_an_empty_line_and_a_gpu_is_asked_for_in_so_many_words() -> None:
    assert steps.environment_lines({}) == b"NVIDIA_VISIBLE_DEVICES=void\n\n"
    given_ = {"B": "", "A": "=x \\ y", "NVIDIA_VISIBLE_DEVICES": "none"}
    assert steps.environment_lines(given_) == (b"NVIDIA_VISIBLE_DEVICES=none\nB=\nA==x \\ y\n\n")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"LayersSize": 7}, 7),
        ({"LayersSize": 0}, 0),
        ({"ImageUsage": {"TotalSize": 9}}, 9),
        ({}, None),
    ],
)
def test_the_size_of_layers_is_read_from_old_and_new_engines(
    raw: dict[str, Any], expected: int | None
) -> None:
    assert parse_layers_size(raw) == expected


def test_a_parent_is_read_from_an_image_and_from_a_listing() -> None:
    inspected = {"Id": "sha256:a", "Parent": "sha256:b", "Config": {"User": "1000"}}
    assert wire.parse_image(inspected).parent == "sha256:b"
    assert wire.parse_image(inspected).user == "1000"
    listed = {"Id": "sha256:a", "ParentId": "sha256:b", "Created": 1}
    assert wire.parse_image(listed).parent == "sha256:b"
