"""Describe the GPUs of a machine: the shapes every inventory answers in, and what it promises.

Not in charge of who holds a device (that is the assignment rows), nor of what a missing device
means for its holder (that is the sync service). Knows no ORM and no NVIDIA library.

Units: bytes, degrees Celsius, watts, per cent 0-100. ``None`` in a usage means "unknown" and is
never the same as 0: what cannot be measured must not be taken for idle.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

Source = Literal["nvml", "simulated", "none"]

#: A card is cut into seven compute slices; one MIG slice weighs a seventh of a GPU.
SLICES_PER_GPU: Final = 7

#: How the stand-in UUID of a card begins that answers so little that even its UUID is unknown.
UNIDENTIFIED_PREFIX: Final = "GPU-unidentified-at-index-"

#: ``3g.20gb``, also with attributes such as ``1g.10gb+me``. ``1c.3g.20gb`` is left out on purpose:
#: compute instances inside one GPU instance share their memory, so they are not separate devices.
_PROFILE: Final = re.compile(r"(?P<slices>[12347])g\.(?P<gb>[1-9]\d{0,2})gb(?:[+-][a-z0-9.]+)*")


class InventoryError(Exception):
    """The inventory could not be read to its end, so nothing is known about any device.

    Whoever catches it must leave what it knew of the devices as it was.
    """


class InventorySettingError(ValueError):
    """The setting that chooses the inventory cannot be understood.

    ``text`` is what was read, ``position`` the character (from 1) where it stopped making sense.
    """

    def __init__(self, problem: str, *, text: str, position: int, allowed: str) -> None:
        self.problem = problem
        self.text = text
        self.position = position
        self.allowed = allowed
        super().__init__(f"{problem} (character {position} of {text!r}). Allowed: {allowed}")


class DeviceKind(StrEnum):
    """Say what a device is: a card as a whole or one MIG instance on a card."""

    GPU = "gpu"
    MIG = "mig"


@dataclass(frozen=True, kw_only=True, slots=True)
class MigProfile:
    """Hold what the name of a MIG profile says."""

    name: str
    slices: int
    memory_gb: int

    @property
    def gpueq(self) -> float:
        """Give the share of a whole GPU that quotas count: slices of seven."""
        return self.slices / SLICES_PER_GPU


def parse_profile(text: str) -> MigProfile | None:
    """Read a MIG profile name such as ``3g.20gb``; None when it is not one that can be counted."""
    match = _PROFILE.fullmatch(text.strip().lower())
    if match is None:
        return None
    return MigProfile(name=match[0], slices=int(match["slices"]), memory_gb=int(match["gb"]))


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceInfo:
    """Hold one card or MIG instance as the machine shows it; the UUID alone identifies it.

    ``index`` and ``mig_index`` are for people and for order; both may change at a reboot.
    ``memory_bytes`` 0 means unknown. ``compute_slices`` is 7 for a card, 0 for an unknown profile.
    ``gpueq`` of an unknown profile is 1.0: what cannot be weighed must not widen a quota.
    """

    uuid: str
    kind: DeviceKind
    index: int
    mig_index: int | None = None
    parent_uuid: str | None = None
    model: str
    memory_bytes: int
    profile: str = ""
    compute_slices: int = SLICES_PER_GPU
    gpueq: float = 1.0
    usable: bool = True
    reason: str = ""

    def __post_init__(self) -> None:
        """Refuse a device that contradicts itself."""
        if self.usable == bool(self.reason):
            raise ValueError(f"{self.uuid}: an unusable device has a reason, a usable one has none")
        is_mig = self.kind is DeviceKind.MIG
        if is_mig != (self.mig_index is not None) or is_mig != (self.parent_uuid is not None):
            raise ValueError(f"{self.uuid}: a MIG instance, and nothing else, has a parent")

    @property
    def order(self) -> tuple[int, int]:
        """Give the numeric sort key: card 2 before card 10, a card before its instances."""
        return (self.index, -1 if self.mig_index is None else self.mig_index)

    @property
    def slot(self) -> str:
        """Give the short name for people: ``3`` for a card, ``3.0`` for an instance on it."""
        return str(self.index) if self.mig_index is None else f"{self.index}.{self.mig_index}"

    @property
    def identified(self) -> bool:
        """Tell whether the UUID is the device's own; a stand-in is for showing, not for keeping."""
        return not self.uuid.startswith(UNIDENTIFIED_PREFIX)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceUsage:
    """Hold what one device does at this moment; every None is "unknown", never "nothing".

    ``pids`` are host process ids of compute processes; ``()`` means that there are none.
    """

    uuid: str
    gpu_percent: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    pids: tuple[int, ...] | None = None
    simulated: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Inventory:
    """Hold all devices of a machine, in numeric order, usable or not, and where they come from.

    ``message`` is one sentence for people. ``cuda_driver_version`` is the newest CUDA that the
    driver can serve as (major, minor), None when unknown.
    """

    source: Source
    driver_version: str = ""
    cuda_driver_version: tuple[int, int] | None = None
    devices: tuple[DeviceInfo, ...] = ()
    message: str = ""

    @property
    def driver_missing(self) -> bool:
        """Tell whether real GPUs were asked for on a machine that has no NVIDIA driver loaded."""
        return self.source == "nvml" and not self.driver_version

    @property
    def usable_devices(self) -> tuple[DeviceInfo, ...]:
        """Give the devices that can be handed out."""
        return tuple(device for device in self.devices if device.usable)


class GPUInventory(ABC):
    """Read the GPUs of a machine. Every method may be called again at any time."""

    source: Source

    @abstractmethod
    def read(self) -> Inventory:
        """List every device. Raise InventoryError when the list could not be finished."""

    @abstractmethod
    def usage(self, uuids: Iterable[str]) -> dict[str, DeviceUsage]:
        """Measure devices: one entry for each UUID asked, all unknown for one that is not there.

        Raise InventoryError when the driver went away while it was asked.
        """


class NoInventory(GPUInventory):
    """Stand for a machine on which no GPUs are to be offered."""

    source: Source = "none"

    def read(self) -> Inventory:
        """List nothing."""
        return Inventory(source="none", message="GPUs are switched off on this machine.")

    def usage(self, uuids: Iterable[str]) -> dict[str, DeviceUsage]:
        """Answer "unknown" for each."""
        return {uuid: DeviceUsage(uuid=uuid) for uuid in uuids}
