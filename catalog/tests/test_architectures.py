"""Which architecture a machine has, and what its driver can run."""

from __future__ import annotations

import pytest

from catalog.architectures import (
    Fit,
    architecture_from_cuda,
    can_driver_run,
    image_cuda_version,
    judge_image,
    parse_cuda_version,
    resolve_architecture,
)
from catalog.models import HostFacts
from catalog.services.hosts import read_host_architecture, record_host_facts


@pytest.mark.parametrize(
    ("cuda", "expected"),
    [
        (None, None),
        ((10, 2), "CUDA_AMPERE"),
        ((11, 8), "CUDA_AMPERE"),
        ((11, 9), None),
        ((12, 0), "CUDA_ADA"),
        ((12, 6), "CUDA_ADA"),
        ((12, 7), "CUDA_ADA"),
        ((12, 8), "CUDA_BLACKWELL"),
        ((13, 0), "CUDA_BLACKWELL"),
    ],
)
def test_the_drivers_cuda_decides(cuda, expected):
    assert architecture_from_cuda(cuda) == expected


def test_explicit_goes_before_the_setting_and_the_setting_before_the_driver():
    driver = (12, 6)

    asked = resolve_architecture(
        explicit=" cuda_ampere ", setting="CUDA_BLACKWELL", driver_cuda=driver
    )
    configured = resolve_architecture(setting="cuda_blackwell", driver_cuda=driver)
    detected = resolve_architecture(driver_cuda=driver)

    assert (asked.arch, asked.source) == ("CUDA_AMPERE", "explicit")
    assert (configured.arch, configured.source) == ("CUDA_BLACKWELL", "setting")
    assert (detected.arch, detected.source) == ("CUDA_ADA", "driver")


def test_no_driver_is_a_state_of_its_own():
    none = resolve_architecture()
    between = resolve_architecture(driver_cuda=(11, 9))

    assert (none.arch, none.source) == (None, "none")
    assert none.message == "no NVIDIA driver is known on this machine"
    assert between.arch is None
    assert "CUDA 11.9" in between.message


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("aimehub/pytorch-2.7.1-cuda12.6.3", (12, 6)),
        ("aimehub/pytorch-2.7.0-cuda12.8", (12, 8)),
        ("aimehub/tensorflow-2.4.1-cuda110-aime", (11, 0)),
        ("aimehub/pytorch-1.8.0-cuda", None),
        ("aimehub/pytorch-2.6.0-rocm6.2", None),
        ("pytorch/pytorch:2.5.1-cuda12.1-cudnn9-runtime", (12, 1)),
        ("lab/torch:2.5-cu121", (12, 1)),
        ("lab/torch:cuda12", (12, 0)),
        ("cuda11.8.example.org/lab/plain", None),
        ("lab/a@sha256:" + "cu121" * 10, None),
    ],
)
def test_the_images_cuda_is_read_from_its_name(reference, expected):
    assert image_cuda_version(reference) == expected


def test_a_driver_runs_its_own_cuda_and_older():
    assert can_driver_run((12, 6), (12, 6)) is True
    assert can_driver_run((11, 8), (12, 6)) is True
    assert can_driver_run((12, 8), (12, 6)) is False
    assert can_driver_run(None, (12, 6)) is None
    assert can_driver_run((12, 8), None) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("12.6", (12, 6)), ("12.6.3", (12, 6)), ("", None), ("12", None), ("x.y", None)],
)
def test_cuda_versions_are_read(text, expected):
    assert parse_cuda_version(text) == expected


@pytest.mark.parametrize(
    ("architectures", "reference", "fit", "reason"),
    [
        (["CUDA_ADA"], "a-cuda12.6.3", Fit.FITS, ""),
        (["CUDA_ADA"], "a-cuda", Fit.FITS, ""),
        (["CUDA_AMPERE"], "a-cuda11.8", Fit.OTHER, "made for CUDA_AMPERE; this machine is CUDA_A"),
        (["CUDA_BLACKWELL"], "a-cuda12.8", Fit.CANNOT, "needs CUDA 12.8; the driver of this ma"),
        (["CUDA_ADA"], "a-cuda12.7", Fit.CANNOT, "runs up to CUDA 12.6"),
        (["ROCM5", "ROCM6"], "a-rocm6", Fit.CANNOT, "made for ROCM5 or ROCM6; this machine has"),
        ([], "local/thing", Fit.UNKNOWN, "does not say for which GPUs"),
    ],
)
def test_an_image_is_judged_with_a_reason(architectures, reference, fit, reason):
    host = resolve_architecture(driver_cuda=(12, 6))

    judgement = judge_image(architectures=architectures, reference=reference, host=host)

    assert judgement.fit == fit
    assert reason in judgement.reason


def test_without_a_driver_nothing_is_called_fitting():
    judgement = judge_image(
        architectures=["CUDA_ADA"], reference="a-cuda12.6", host=resolve_architecture()
    )

    assert judgement.fit == Fit.UNKNOWN
    assert judgement.reason == "no NVIDIA driver is known on this machine"


@pytest.mark.django_db
def test_the_drivers_facts_are_kept_and_can_go_away(settings):
    assert read_host_architecture().source == "none"

    record_host_facts(driver_version="560.35.03", cuda_version=(12, 6))
    assert read_host_architecture().arch == "CUDA_ADA"
    assert str(HostFacts.objects.get()) == "560.35.03"

    settings.MLC_ARCH = "CUDA_AMPERE"
    assert read_host_architecture().source == "setting"
    assert read_host_architecture().driver_cuda == (12, 6)

    settings.MLC_ARCH = ""
    record_host_facts(driver_version="", cuda_version=None)
    assert read_host_architecture().arch is None
    assert HostFacts.objects.count() == 1
