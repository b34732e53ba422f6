"""Which architecture this machine has, from what is known of its driver.

Not in charge of: asking the driver. Who lists the GPUs hands its version over.
"""

from __future__ import annotations

from django.conf import settings
from django.utils import timezone

from catalog.architectures import (
    CudaVersion,
    HostArchitecture,
    format_cuda,
    resolve_architecture,
)
from catalog.models import HostFacts

__all__ = ["read_host_architecture", "record_host_facts"]


def record_host_facts(*, driver_version: str, cuda_version: CudaVersion | None) -> HostFacts:
    """Store what the driver said now; an empty version and None mean that there is none."""
    facts, _created = HostFacts.objects.update_or_create(
        pk=HostFacts.SINGLETON,
        defaults={
            "driver_version": driver_version[:40],
            "driver_cuda": format_cuda(cuda_version),
            "updated_at": timezone.now(),
        },
    )
    return facts


def read_host_architecture(*, explicit: str = "") -> HostArchitecture:
    """Return the architecture to look images up for: explicit, MLC_ARCH, driver, or none."""
    facts = HostFacts.objects.filter(pk=HostFacts.SINGLETON).first()
    return resolve_architecture(
        explicit=explicit,
        setting=settings.MLC_ARCH,
        driver_cuda=facts.cuda_version if facts else None,
    )
