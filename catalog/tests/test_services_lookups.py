"""Look-up: the known answers, and errors that list what there is."""

from __future__ import annotations

import pytest

from catalog.architectures import Fit
from catalog.services.hosts import record_host_facts
from catalog.services.images import retire_image
from catalog.services.lookups import lookup_image
from catalog.services.sync import sync_catalog
from ds01portal.exceptions import ImageRefused

pytestmark = pytest.mark.django_db


@pytest.fixture
def snapshot(db):
    sync_catalog()


@pytest.mark.parametrize(
    ("framework", "version", "architecture", "reference"),
    [
        ("pytorch", "", "CUDA_ADA", "aimehub/pytorch-2.8.0-aime-cuda12.6.3"),
        ("pytorch", "2.8.0", "CUDA_ADA", "aimehub/pytorch-2.8.0-cuda12.6.3"),
        ("pytorch", "2.7.1", "CUDA_ADA", "aimehub/pytorch-2.7.1-cuda12.6.3"),
        ("tensorflow", "", "CUDA_ADA", "aimehub/tensorflow-2.16.1-cuda12.3"),
        ("tensorflow", "2.16.1", "CUDA_ADA", "aimehub/tensorflow-2.16.1-cuda12.3"),
        ("PyTorch", "2.8.0-AIME", "cuda_ada", "aimehub/pytorch-2.8.0-aime-cuda12.6.3"),
        ("torch", "2.7.1", "CUDA_ADA", "aimehub/pytorch-2.7.1-cuda12.6.3"),
        ("TF", "", "CUDA_ADA", "aimehub/tensorflow-2.16.1-cuda12.3"),
        # a row for several architectures is found for each of them
        ("pytorch", "2.1.0-aime", "CUDA_ADA", "aimehub/pytorch-2.1.0-aime-cuda11.8"),
        ("tensorflow", "", "CUDA_AMPERE", "aimehub/tensorflow-2.14.0-cuda11.8"),
        ("pytorch", "", "CUDA_BLACKWELL", "aimehub/pytorch-2.9.1-cuda12.8.1"),
        ("pytorch", "", "CUDA_AMPERE", "aimehub/pytorch-2.7.1-aime-cuda11.8.0"),
        ("rocm", "", "ROCM5", "rocm/dev-ubuntu-20.04:5.4.2-complete"),
    ],
)
def test_the_known_answers(snapshot, framework, version, architecture, reference):
    result = lookup_image(framework=framework, version=version, architecture=architecture)

    assert result.reference == reference
    assert not result.is_fallback
    assert result.image is not None


def test_a_missing_version_is_an_error_that_lists_what_there_is(catalogue):
    with pytest.raises(ImageRefused, match=r"There is no Alpha 9\.9\.9 for CUDA_ADA") as refused:
        lookup_image(framework="alpha", version="9.9.9", architecture="CUDA_ADA")

    assert refused.value.fields["available"] == ["2.1.0-extra", "2.1.0"]
    assert "Available: 2.1.0-extra, 2.1.0." in refused.value.hint


def test_a_version_for_other_gpus_says_for_which(catalogue):
    with pytest.raises(ImageRefused) as refused:
        lookup_image(framework="alpha", version="3.0.0", architecture="CUDA_ADA")

    assert refused.value.fields["architectures"] == ["CUDA_BLACKWELL"]
    assert "3.0.0 is made for CUDA_BLACKWELL." in refused.value.hint


def test_part_of_a_version_is_not_the_version(catalogue):
    with pytest.raises(ImageRefused):
        lookup_image(framework="alpha", version="2.1", architecture="CUDA_ADA")


def test_an_unknown_framework_lists_the_known_ones(catalogue):
    with pytest.raises(ImageRefused, match="no framework 'jax'") as refused:
        lookup_image(framework="jax", architecture="CUDA_ADA")

    assert refused.value.fields["frameworks"] == ["alpha", "pytorch", "tensorflow"]


def test_an_empty_catalogue_says_how_to_fill_it():
    with pytest.raises(ImageRefused) as refused:
        lookup_image(framework="alpha", architecture="CUDA_ADA")

    assert "sync_catalog" in refused.value.hint


def test_the_fallback_is_marked_and_of_the_same_framework(catalogue):
    result = lookup_image(framework="torch", architecture="CUDA_ADA")

    assert result.is_fallback
    assert (result.framework, result.version) == ("Pytorch", "2.5.1")
    assert result.reference == "pytorch/pytorch:2.5.1-cuda12.1-runtime"
    assert result.as_dict()["id"] is None


def test_a_named_version_never_falls_back(catalogue):
    with pytest.raises(ImageRefused) as refused:
        lookup_image(framework="pytorch", version="2.0.1", architecture="CUDA_ADA")

    assert refused.value.fields["available"] == []
    assert refused.value.fields["architectures"] == ["ROCM6"]


def test_without_a_fallback_another_architecture_is_an_error(catalogue):
    with pytest.raises(ImageRefused, match="There is no TensorFlow for CUDA_BLACKWELL") as refused:
        lookup_image(framework="tensorflow", architecture="CUDA_BLACKWELL")

    assert refused.value.fields["architectures"] == ["CUDA_ADA"]


def test_an_unknown_architecture_lists_those_alike(catalogue):
    with pytest.raises(ImageRefused, match="no architecture CUDA_HOPPER") as refused:
        lookup_image(framework="alpha", architecture="cuda_hopper")

    assert refused.value.fields["architectures"] == [
        "CUDA",
        "CUDA_ADA",
        "CUDA_AMPERE",
        "CUDA_BLACKWELL",
    ]


def test_without_a_driver_the_architecture_must_be_named(catalogue):
    with pytest.raises(ImageRefused, match="no NVIDIA driver") as refused:
        lookup_image(framework="alpha")

    assert refused.value.fields["reason"] == "no-architecture"


def test_the_driver_and_the_setting_choose_the_architecture(catalogue, settings):
    record_host_facts(driver_version="560", cuda_version=(12, 6))
    assert lookup_image(framework="alpha").reference == "lab/alpha-2.1.0-extra-cuda12.6.3"

    settings.MLC_ARCH = "cuda_ampere"
    assert lookup_image(framework="alpha").reference == "lab/alpha-2.1.0-cuda11.8.0"


def test_an_image_the_driver_cannot_run_says_so(catalogue):
    record_host_facts(driver_version="560", cuda_version=(12, 6))

    result = lookup_image(framework="alpha", architecture="CUDA_BLACKWELL")

    assert result.judgement.fit == Fit.CANNOT
    assert result.as_dict()["fit"] == "cannot"


def test_a_retired_image_is_not_found(catalogue, admin_person):
    retire_image(image=catalogue[1], actor=admin_person)

    result = lookup_image(framework="alpha", architecture="CUDA_ADA")

    assert result.reference == "lab/alpha-2.1.0-cuda11.8.0"
