"""Image references: what is accepted, how it is written, where it is pulled from."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.references import apply_mirror, canonical_reference, parse_reference
from ds01portal.exceptions import InvalidInput


@pytest.mark.parametrize(
    ("text", "registry", "path", "tag"),
    [
        ("ubuntu", "", "ubuntu", ""),
        ("ubuntu:22.04", "", "ubuntu", "22.04"),
        ("aimehub/pytorch-2.7.1-cuda12.6.3", "", "aimehub/pytorch-2.7.1-cuda12.6.3", ""),
        ("rocm/dev-ubuntu-20.04:5.4.2-complete", "", "rocm/dev-ubuntu-20.04", "5.4.2-complete"),
        ("localhost:5000/lab/vision:v4", "localhost:5000", "lab/vision", "v4"),
        ("nvcr.io/nvidia/jax:23.10-py3", "nvcr.io", "nvidia/jax", "23.10-py3"),
        ("docker.io/library/ubuntu", "", "ubuntu", ""),
        ("ds01-1722830498/my_image:latest", "", "ds01-1722830498/my_image", "latest"),
    ],
)
def test_a_reference_is_taken_apart(text, registry, path, tag):
    parsed = parse_reference(text)

    assert (parsed.registry, parsed.path, parsed.tag) == (registry, path, tag)
    assert parse_reference(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("a b", "spaces"),
        (" ubuntu", "spaces"),
        ("ubuntu\n", "control"),
        ("übung", "non-ASCII"),
        ("PyTorch/pytorch", "lower case"),
        ("ubuntu:", "not a tag"),
        ("ubuntu:.x", "not a tag"),
        ("ubuntu:" + "x" * 129, "not a tag"),
        ("ubuntu:a,b", "not a tag"),
        ("-v", "not a valid part"),
        ("--privileged", "not a valid part"),
        ("../etc", "not a registry's host name"),
        ("a//b", "not a valid part"),
        ("/a", "not a valid part"),
        ("a/", "not a valid part"),
        ("a,b", "not a valid part"),
        ("https://example.org/a", "without the scheme"),
        ("ubuntu@sha256:12", "not a digest"),
        ("ubuntu@", "not a digest"),
        ("sha256:" + "a" * 64, "image id"),
        ("b" * 64, "image id"),
        ("x" * 300, "longer than"),
        (":latest", "missing"),
        ("example.org:port/a", "host name"),
    ],
)
def test_nonsense_is_refused_with_its_reason(text, reason):
    with pytest.raises(InvalidInput) as refused:
        parse_reference(text)

    assert reason in refused.value.message
    assert refused.value.fields["field"] == "image"


@given(st.text(max_size=80))
def test_any_text_is_parsed_or_refused(text):
    try:
        parsed = parse_reference(text)
    except InvalidInput:
        return
    assert parse_reference(str(parsed)) == parsed
    assert "," not in str(parsed)


def test_equal_references_have_one_canonical_spelling():
    spellings = ["ubuntu", "ubuntu:latest", "docker.io/ubuntu", "docker.io/library/ubuntu:latest"]

    assert {canonical_reference(text) for text in spellings} == {"docker.io/library/ubuntu:latest"}
    assert canonical_reference("<none>:<none>") == "<none>:<none>"


def test_a_container_tag_replaces_tag_and_digest():
    parsed = parse_reference("lab/a:1@sha256:" + "0" * 64)

    assert str(parsed.with_tag("thesis._.200001")) == "lab/a:thesis._.200001"
    with pytest.raises(InvalidInput, match="the tag may only have"):
        parsed.with_tag("a b")


@pytest.mark.parametrize(
    ("reference", "mirror", "expected"),
    [
        ("aimehub/a", "", "aimehub/a"),
        ("aimehub/a", "registry.example.org/hub", "registry.example.org/hub/aimehub/a"),
        ("ubuntu:22.04", "registry.example.org", "registry.example.org/library/ubuntu:22.04"),
        ("aimehub/a", " localhost:5000/ ", "localhost:5000/aimehub/a"),
        ("nvcr.io/nvidia/jax:1", "registry.example.org", "nvcr.io/nvidia/jax:1"),
    ],
)
def test_only_hub_images_go_through_the_mirror(reference, mirror, expected):
    assert apply_mirror(reference, mirror=mirror) == expected


@pytest.mark.parametrize("mirror", ["https://registry.example.org", "hub", "example.org/A B"])
def test_a_mirror_that_is_no_registry_is_refused(mirror):
    with pytest.raises(InvalidInput, match="not a registry prefix"):
        apply_mirror("aimehub/a", mirror=mirror)
