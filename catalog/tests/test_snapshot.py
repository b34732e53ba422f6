"""The shipped snapshot and its format."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.aime import parse_aime
from catalog.snapshot import (
    FORMAT,
    FORMAT_VERSION,
    SNAPSHOT_PATH,
    dump_snapshot,
    parse_catalog,
    parse_snapshot,
)
from catalog.tests.conftest import SAMPLE


def document(frameworks):
    return json.dumps(
        {"format": FORMAT, "format_version": FORMAT_VERSION, "frameworks": frameworks}
    ).encode()


def test_the_shipped_snapshot_is_whole():
    parsed = parse_catalog(SNAPSHOT_PATH.read_bytes())

    assert parsed.problems == ()
    assert len(parsed.entries) == 116
    assert list(dict.fromkeys(entry.framework for entry in parsed.entries)) == [
        "Pytorch",
        "Tensorflow",
        "ROCM",
        "Mxnet",
    ]


def test_a_snapshot_says_the_same_as_the_file_it_was_made_from():
    entries = parse_aime(SAMPLE).entries

    written = dump_snapshot(list(entries), about="facts")
    read = parse_catalog(written.encode()).entries

    assert [(e.key, e.reference) for e in read] == [(e.key, e.reference) for e in entries]


@pytest.mark.parametrize(
    ("frameworks", "reason"),
    [
        ({"Alpha": {}}, "Alpha: its versions are missing"),
        ({"Alpha": []}, "Alpha: its versions are missing"),
        ({"Alpha": {"1.0": {}}}, "Alpha 1.0: its images are missing"),
        ({"Alpha": {"1.0": {"CUDA_ADA": "A b"}}}, "Alpha 1.0: not an image reference"),
        ({"Alpha": {"1.0": {"CUDA_ADA": 3, "": "lab/a"}}}, "'' is not an architecture"),
        ({"Alpha": {"1,0": {"CUDA_ADA": "lab/a"}}}, "'1,0' is not a version"),
        ([], "'frameworks' is missing"),
    ],
)
def test_what_is_unusable_is_named(frameworks, reason):
    reasons = [str(problem) for problem in parse_snapshot(document(frameworks)).problems]

    assert any(reason in text for text in reasons)


@pytest.mark.parametrize("data", [b"{", b"{}", b'{"format": "other"}', b"{\xff}"])
def test_another_document_has_no_entries_and_one_reason(data):
    parsed = parse_catalog(data)

    assert parsed.entries == ()
    assert len(parsed.problems) == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


@given(json_values)
def test_no_document_crashes_the_reader(value):
    parsed = parse_snapshot(document(value))

    assert parsed.entries or parsed.problems or value == {}
