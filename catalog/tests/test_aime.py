"""Reading AIME's file: good lines load, bad ones are named, nothing crashes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.aime import parse_aime
from catalog.tests.conftest import SAMPLE

GOOD = "Alpha, 1.0, [CUDA_ADA], lab/alpha-1.0-cuda12.1"


def test_the_sample_loads_in_its_order():
    parsed = parse_aime(SAMPLE)

    assert [entry.version for entry in parsed.entries] == [
        "3.0.0",
        "2.1.0-extra",
        "2.1.0",
        "2.0.0",
        "2.0.1",
        "1.5.0",
    ]
    assert parsed.entries[2].architectures == ("CUDA_ADA", "CUDA_AMPERE")
    assert (parsed.problems, parsed.blank, parsed.comments) == ((), 1, 1)
    assert not parsed.cut_off


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_is_tolerated(end):
    parsed = parse_aime(end.join([GOOD, "", GOOD.replace("1.0", "0.9"), ""]).encode())

    assert [entry.line for entry in parsed.entries] == [1, 3]
    assert (parsed.problems, parsed.blank) == ((), 1)


def test_a_byte_order_mark_and_odd_spaces_are_tolerated():
    parsed = parse_aime(b"\xef\xbb\xbfAlpha ,1.0,[ cuda_ada ; CUDA_AMPERE ] ,  lab/alpha  \n")

    assert parsed.entries[0].architectures == ("CUDA_ADA", "CUDA_AMPERE")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"Alpha, 1.1, [CUDA_ADA]", "3 fields, not 4"),
        (b"Alpha, 1.1, [CUDA_ADA], lab/a, more", "5 fields, not 4"),
        (b"Alpha, 1.1, [CUDA_ADA, CUDA_AMPERE], lab/a", "5 fields, not 4"),
        (b"Alpha", "1 fields, not 4"),
        (b", 1.1, [CUDA_ADA], lab/a", "the field 'framework' is empty"),
        (b"Alpha, , [CUDA_ADA], lab/a", "the field 'version' is empty"),
        (b"Alpha, 1.1, , lab/a", "the field 'architectures' is empty"),
        (b"Alpha, 1.1, [CUDA_ADA],", "the field 'image' is empty"),
        (b"Alpha, 1.1, CUDA_ADA, lab/a", "not in square brackets"),
        (b"Alpha, 1.1, [CUDA_ADA, lab/a", "not in square brackets"),
        (b"Alpha, 1.1, [, lab/a", "not in square brackets"),
        (b"Alpha, 1.1, [], lab/a", "the list of architectures is empty"),
        (b"Alpha, 1.1, [  ], lab/a", "the list of architectures is empty"),
        (b"Alpha, 1.1, [CUDA_ADA;], lab/a", "has an empty place"),
        (b"Alpha, 1.1, [CUDA_ADA;CUDA_ADA], lab/a", "named twice"),
        (b"Alpha, 1.1, [cuda-ada], lab/a", "'CUDA-ADA' is not an architecture"),
        (b"Alpha, 1.1, [CUDA_ADA], lab/A b", "not an image reference: spaces"),
        (b"Alpha, 1.1, [CUDA_ADA], Lab/A", "not an image reference: names are lower case"),
        (b"Alpha, 1.1, [CUDA_ADA], --privileged", "not an image reference"),
        (b"Al pha, 1.1, [CUDA_ADA], lab/a", "'Al pha' is not a framework's name"),
        (b"<b>, 1.1, [CUDA_ADA], lab/a", "is not a framework's name"),
        (b"Alpha, 1 1, [CUDA_ADA], lab/a", "'1 1' is not a version"),
        (b"Alpha, " + b"9" * 80 + b", [CUDA_ADA], lab/a", "is not a version"),
        (b"Alpha, 1.\xff, [CUDA_ADA], lab/a", "not UTF-8 text (byte 10)"),
        (b"A\x00lpha, 1.1, [CUDA_ADA], lab/a", "is not a framework's name"),
        (b"Alpha, 1.0, [CUDA_ADA], lab/other", "duplicate: Alpha 1.0 for CUDA_ADA is there on l"),
        (b"ALPHA, 1.0, [CUDA_AMPERE;CUDA_ADA], lab/other", "is there on line 1"),
    ],
)
def test_a_bad_line_is_named_and_the_good_ones_load(line, reason):
    parsed = parse_aime(GOOD.encode() + b"\n" + line + b"\nAlpha, 0.9, [CUDA_ADA], lab/b\n")

    assert [entry.version for entry in parsed.entries] == ["1.0", "0.9"]
    assert [problem.line for problem in parsed.problems] == [2]
    assert reason in parsed.problems[0].reason
    assert str(parsed.problems[0]).startswith("line 2: ")


def test_a_refused_duplicate_reserves_nothing():
    text = f"{GOOD}\nAlpha, 1.0, [CUDA_ADA;ROCM6], lab/x\nAlpha, 1.0, [ROCM6], lab/y\n"

    parsed = parse_aime(text.encode())

    assert [entry.reference for entry in parsed.entries] == [
        "lab/alpha-1.0-cuda12.1",
        "lab/y",
    ]


def test_a_file_that_ends_within_a_line_is_noticed():
    assert parse_aime(f"{GOOD}\nAlpha, 0.9, [CU".encode()).cut_off
    assert not parse_aime(f"{GOOD}\nAlpha, 0.9, [CU\n".encode()).cut_off
    assert not parse_aime(GOOD.encode()).cut_off


@pytest.mark.parametrize(
    "data", [b"", b"\n\n", b"# only words\n", SAMPLE.decode().encode("utf-16")]
)
def test_a_file_without_a_row_gives_no_entry(data):
    assert parse_aime(data).entries == ()


line_like = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(SAMPLE.splitlines()),
    st.tuples(st.sampled_from(SAMPLE.splitlines()), st.integers(0, 60)).map(lambda p: p[0][: p[1]]),
    st.text(max_size=40).map(lambda text: f"Alpha, {text}, [CUDA], lab/a".encode()),
)


@given(st.lists(line_like, max_size=12), st.sampled_from([b"\n", b"\r\n"]))
def test_every_line_is_loaded_or_named_and_nothing_crashes(lines, end):
    data = end.join(lines)

    parsed = parse_aime(data)

    counted = len(parsed.entries) + len(parsed.problems) + parsed.blank + parsed.comments
    assert counted == len(data.removeprefix(b"\xef\xbb\xbf").splitlines())
    keys = {(e.key[0], e.key[1], name) for e in parsed.entries for name in e.architectures}
    assert len(keys) == sum(len(entry.architectures) for entry in parsed.entries)
