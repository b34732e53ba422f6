"""GPU architectures as AIME names them, and which image a machine's driver can run. Pure.

The architecture of a host follows from the highest CUDA version of its NVIDIA driver, as in
AIME's `mlc`: up to 11.8 CUDA_AMPERE, from 12.0 CUDA_ADA, from 12.8 CUDA_BLACKWELL. An explicit
choice goes before the setting, the setting before the driver. That there is no driver is a
state of its own, never a silent default. Not in charge of: asking the driver.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

CudaVersion = tuple[int, int]
Source = Literal["explicit", "setting", "driver", "none"]

KNOWN = ("CUDA_BLACKWELL", "CUDA_ADA", "CUDA_AMPERE", "CUDA", "ROCM6", "ROCM5")

# cuda12.6.3, cuda110 (11.0, as one image is named), cu121 (as PyTorch's own tags have it)
_CUDA = re.compile(r"cuda(\d{1,2})\.(\d{1,2})|cuda(\d{2})(\d)(?!\d)|cu(\d{2})(\d)(?![\d.])")
_CUDA_MAJOR = re.compile(r"cuda(\d{1,2})(?![\d.])")


@dataclass(frozen=True, kw_only=True, slots=True)
class HostArchitecture:
    """The architecture to look images up for. `arch` is None when nothing says which."""

    arch: str | None
    source: Source
    driver_cuda: CudaVersion | None
    message: str


class Fit(StrEnum):
    """How an image suits the machine."""

    FITS = "fits"  # made for this architecture, and the driver runs its CUDA
    OTHER = "other"  # made for another architecture; may run, never the default
    CANNOT = "cannot"  # the driver cannot run it
    UNKNOWN = "unknown"  # nothing is known about the machine or the image


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """How an image suits the machine, and why in words (empty when it simply fits)."""

    fit: Fit
    reason: str = ""


def architecture_from_cuda(cuda: CudaVersion | None) -> str | None:
    """Return AIME's name for a driver's CUDA version (major, minor); None when it has none."""
    if cuda is None:
        return None
    if cuda >= (12, 8):
        return "CUDA_BLACKWELL"
    if cuda >= (12, 0):
        return "CUDA_ADA"
    return "CUDA_AMPERE" if cuda <= (11, 8) else None


def parse_cuda_version(text: str) -> CudaVersion | None:
    """Return (major, minor) of a text such as `12.6` or `12.6.3`, None when it is none."""
    match = re.fullmatch(r"\s*(\d{1,3})\.(\d{1,3})(?:\.\d+)*\s*", text)
    return (int(match[1]), int(match[2])) if match else None


def format_cuda(cuda: CudaVersion | None) -> str:
    """Return `12.6`, or an empty text for None."""
    return f"{cuda[0]}.{cuda[1]}" if cuda else ""


def image_cuda_version(reference: str) -> CudaVersion | None:
    """Return the CUDA version that an image's name states, None when it states none."""
    name = reference.rpartition("/")[2].partition("@")[0].lower()
    match = _CUDA.search(name)
    if match:
        major, minor = (group for group in match.groups() if group is not None)
        return int(major), int(minor)
    match = _CUDA_MAJOR.search(name)
    return (int(match[1]), 0) if match else None


def can_driver_run(image_cuda: CudaVersion | None, driver_cuda: CudaVersion | None) -> bool | None:
    """Say whether a driver runs an image's CUDA; None when one of both is unknown."""
    if image_cuda is None or driver_cuda is None:
        return None
    return image_cuda <= driver_cuda


def resolve_architecture(
    *, explicit: str = "", setting: str = "", driver_cuda: CudaVersion | None = None
) -> HostArchitecture:
    """Return the architecture that counts: explicit choice, setting, driver, or none."""
    chosen = explicit.strip().upper()
    if chosen:
        return HostArchitecture(
            arch=chosen, source="explicit", driver_cuda=driver_cuda, message=f"{chosen}, as asked"
        )
    configured = setting.strip().upper()
    if configured:
        message = f"{configured}, as set in MLC_ARCH"
        return HostArchitecture(
            arch=configured, source="setting", driver_cuda=driver_cuda, message=message
        )
    return _from_driver(driver_cuda)


def judge_image(
    *, architectures: Sequence[str], reference: str, host: HostArchitecture
) -> Judgement:
    """Say how an image suits the host."""
    image_cuda = image_cuda_version(reference)
    if can_driver_run(image_cuda, host.driver_cuda) is False:
        needs, has = format_cuda(image_cuda), format_cuda(host.driver_cuda)
        return Judgement(
            fit=Fit.CANNOT,
            reason=f"needs CUDA {needs}; the driver of this machine runs up to CUDA {has}",
        )
    if not architectures:
        return Judgement(fit=Fit.UNKNOWN, reason="does not say for which GPUs it was made")
    if host.arch is None:
        return Judgement(fit=Fit.UNKNOWN, reason=host.message)
    if host.arch in architectures:
        return Judgement(fit=Fit.FITS)
    made_for = " or ".join(architectures)
    if _vendors(architectures).isdisjoint(_vendors([host.arch])):
        return Judgement(
            fit=Fit.CANNOT, reason=f"made for {made_for}; this machine has {host.arch}"
        )
    return Judgement(fit=Fit.OTHER, reason=f"made for {made_for}; this machine is {host.arch}")


def _from_driver(driver_cuda: CudaVersion | None) -> HostArchitecture:
    arch = architecture_from_cuda(driver_cuda)
    cuda = format_cuda(driver_cuda)
    if arch is not None:
        message = f"{arch}, from the NVIDIA driver (CUDA {cuda})"
        return HostArchitecture(
            arch=arch, source="driver", driver_cuda=driver_cuda, message=message
        )
    message = (
        f"no architecture is known for a driver with CUDA {cuda}"
        if cuda
        else "no NVIDIA driver is known on this machine"
    )
    return HostArchitecture(arch=None, source="none", driver_cuda=driver_cuda, message=message)


def _vendors(architectures: Sequence[str]) -> set[str]:
    return {"ROCM" if name.startswith("ROCM") else "CUDA" for name in architectures}
