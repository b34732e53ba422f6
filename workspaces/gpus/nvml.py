"""Read the GPUs of this machine from the NVIDIA driver, through its management library (NVML).

Not in charge of changing anything: it never sets a mode, a limit or a layout, and kills nothing.
The only module that imports pynvml.

Each call opens NVML and closes it again, so a driver that was reloaded is found at the next call.
Errors fall in three: no driver (a state, not an error), the driver went away or cannot be talked
to (InventoryError: nothing is known), one card in trouble (listed alone, with a reason: what
instances it has is then not known, which is not the same as having none).
"""

from __future__ import annotations

import contextlib
import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import pynvml  # type: ignore[import-untyped, unused-ignore]

from workspaces.gpus.base import (
    UNIDENTIFIED_PREFIX,
    DeviceInfo,
    DeviceKind,
    DeviceUsage,
    GPUInventory,
    Inventory,
    InventoryError,
    Source,
    parse_profile,
)

logger = logging.getLogger(__name__)

# The binding carries no types; everything it answers is given one where it is used.
_nvml: Any = pynvml
_Error: Final[type[Exception]] = _nvml.NVMLError
_NO_DRIVER: Final = (_nvml.NVMLError_LibraryNotFound, _nvml.NVMLError_DriverNotLoaded)
_DRIVER_GONE: Final = (
    *_NO_DRIVER,
    _nvml.NVMLError_Uninitialized,
    _nvml.NVMLError_LibRmVersionMismatch,
)
_NOT_OFFERED: Final = (_nvml.NVMLError_NotSupported, _nvml.NVMLError_FunctionNotFound)

_MIG_NAME: Final = re.compile(r"\bMIG\s+(\S+)\s*$")
_MIB: Final = 1024**2
_GIB: Final = 1024**3


class NvmlInventory(GPUInventory):
    """Answer for the real devices of this machine."""

    source: Source = "nvml"

    def read(self) -> Inventory:
        """List cards and MIG instances, card by card; see the module for how errors are told."""
        try:
            with _open():
                return _read_machine()
        except _NoDriverError as error:
            return Inventory(
                source="nvml",
                message=f"No NVIDIA driver is loaded on this machine ({error}), so no GPUs.",
            )

    def usage(self, uuids: Iterable[str]) -> dict[str, DeviceUsage]:
        """Measure devices; MIG instances have no utilisation figure, so theirs is unknown."""
        asked = list(uuids)
        try:
            with _open():
                return {uuid: _measure(uuid) for uuid in asked}
        except _NoDriverError:
            return {uuid: DeviceUsage(uuid=uuid) for uuid in asked}


class _NoDriverError(Exception):
    """NVML could not be opened because there is no driver to open."""


@contextlib.contextmanager
def _open() -> Iterator[None]:
    """Open NVML for one round of questions; what escapes the round is an InventoryError."""
    try:
        _nvml.nvmlInit()
    except _NO_DRIVER as error:
        raise _NoDriverError(str(error)) from error
    except _Error as error:
        raise InventoryError(f"The NVIDIA driver cannot be asked: {error}.") from error
    try:
        yield
    except _Error as error:
        raise InventoryError(f"The NVIDIA driver stopped answering: {error}.") from error
    finally:
        with contextlib.suppress(_Error):
            _nvml.nvmlShutdown()


def _read_machine() -> Inventory:
    driver = str(_nvml.nvmlSystemGetDriverVersion())
    cards = int(_nvml.nvmlDeviceGetCount())
    devices = [device for index in range(cards) for device in _read_card(index)]
    usable = sum(device.usable for device in devices)
    return Inventory(
        source="nvml",
        driver_version=driver,
        cuda_driver_version=_read_cuda_version(),
        devices=tuple(sorted(devices, key=lambda device: device.order)),
        message=f"NVIDIA driver {driver}; cards: {cards}; devices to hand out: {usable}.",
    )


def _read_cuda_version() -> tuple[int, int] | None:
    """Give the newest CUDA the driver serves; NVML writes 12.4 as 12040."""
    number = _try(_nvml.nvmlSystemGetCudaDriverVersion_v2)
    return None if not number else (int(number) // 1000, int(number) % 1000 // 10)


@dataclass(kw_only=True, slots=True)
class _Card:
    """Collect what a card has told so far, so that a card lost midway is still told by name."""

    index: int
    uuid: str
    model: str = ""
    memory_bytes: int = 0

    def describe(self, *, reason: str = "") -> DeviceInfo:
        return DeviceInfo(
            uuid=self.uuid,
            kind=DeviceKind.GPU,
            index=self.index,
            model=self.model or "unknown",
            memory_bytes=self.memory_bytes,
            usable=not reason,
            reason=reason,
        )


def _read_card(index: int) -> list[DeviceInfo]:
    """List a card and its MIG instances; a card in trouble is listed alone, with the reason."""
    card = _Card(index=index, uuid=f"{UNIDENTIFIED_PREFIX}{index}")
    try:
        handle = _nvml.nvmlDeviceGetHandleByIndex(index)
        card.uuid = str(_nvml.nvmlDeviceGetUUID(handle))
        card.model = str(_nvml.nvmlDeviceGetName(handle))
        memory = _offered(_nvml.nvmlDeviceGetMemoryInfo, handle)
        card.memory_bytes = 0 if memory is None else int(memory.total)
        # Asked of each card: one machine may mix whole and split cards.
        mode = _offered(_nvml.nvmlDeviceGetMigMode, handle)
        if mode is None or mode[0] != _nvml.NVML_DEVICE_MIG_ENABLE:
            return [card.describe()]
        instances = list(_read_instances(handle, card))
    except _DRIVER_GONE:
        raise
    except _Error as error:
        logger.warning("GPU %s (%s) cannot be used: %s", index, card.uuid, error)
        return [card.describe(reason=_explain(error))]
    if not instances:
        reason = "MIG mode is on but no instances are made: create some or turn MIG mode off"
        return [card.describe(reason=reason)]
    return [card.describe(reason="split into MIG instances"), *instances]


def _read_instances(card_handle: Any, card: _Card) -> Iterator[DeviceInfo]:
    """List the MIG instances of a card; places are numbered with gaps.

    An error here is the card's: a card that stops answering midway is not half usable.
    """
    for mig_index in range(int(_nvml.nvmlDeviceGetMaxMigDeviceCount(card_handle))):
        try:
            handle = _nvml.nvmlDeviceGetMigDeviceHandleByIndex(card_handle, mig_index)
        except _nvml.NVMLError_NotFound:
            continue
        yield _read_instance(handle, card, mig_index)


def _read_instance(handle: Any, card: _Card, mig_index: int) -> DeviceInfo:
    uuid = str(_nvml.nvmlDeviceGetUUID(handle))
    memory = _offered(_nvml.nvmlDeviceGetMemoryInfo, handle)
    name = _read_profile_name(handle, card)
    profile = parse_profile(name)
    reason = ""
    if profile is None:
        reason = f"unknown MIG profile {name!r}: only profiles such as 3g.20gb can be counted"
    return DeviceInfo(
        uuid=uuid,
        kind=DeviceKind.MIG,
        index=card.index,
        mig_index=mig_index,
        parent_uuid=card.uuid,
        model=card.model,
        memory_bytes=0 if memory is None else int(memory.total),
        profile=profile.name if profile else name,
        compute_slices=profile.slices if profile else 0,
        gpueq=profile.gpueq if profile else 1.0,
        usable=profile is not None,
        reason=reason,
    )


def _read_profile_name(handle: Any, card: _Card) -> str:
    """Take the profile from the instance's name; build it from its attributes where that is bare.

    The rule for the memory in the name (eighths of the card, rounded up) is NVIDIA's own, as in
    its container tools.
    """
    match = _MIG_NAME.search(str(_offered(_nvml.nvmlDeviceGetName, handle) or ""))
    if match:
        return match[1]
    attributes = _offered(_nvml.nvmlDeviceGetAttributes_v2, handle)
    if attributes is None or not card.memory_bytes:
        return ""
    eighths = math.ceil(attributes.memorySizeMB * _MIB / card.memory_bytes * 8)
    memory_gb = round(eighths * math.ceil(card.memory_bytes / _GIB) / 8)
    slices, compute = attributes.gpuInstanceSliceCount, attributes.computeInstanceSliceCount
    return f"{'' if slices == compute else f'{compute}c.'}{slices}g.{memory_gb}gb"


def _measure(uuid: str) -> DeviceUsage:
    handle = _try(_nvml.nvmlDeviceGetHandleByUUID, uuid)
    if handle is None:
        return DeviceUsage(uuid=uuid)
    rates = _try(_nvml.nvmlDeviceGetUtilizationRates, handle)
    memory = _try(_nvml.nvmlDeviceGetMemoryInfo, handle)
    celsius = _try(_nvml.nvmlDeviceGetTemperature, handle, _nvml.NVML_TEMPERATURE_GPU)
    milliwatts = _try(_nvml.nvmlDeviceGetPowerUsage, handle)
    processes = _try(_nvml.nvmlDeviceGetComputeRunningProcesses, handle)
    return DeviceUsage(
        uuid=uuid,
        gpu_percent=None if rates is None else float(rates.gpu),
        memory_used_bytes=None if memory is None else int(memory.used),
        memory_total_bytes=None if memory is None else int(memory.total),
        temperature_c=None if celsius is None else float(celsius),
        power_w=None if milliwatts is None else milliwatts / 1000,
        pids=None if processes is None else tuple(sorted({int(each.pid) for each in processes})),
    )


def _offered(question: Callable[..., Any], *args: Any) -> Any:
    """Ask; None when this card or driver does not know the question."""
    try:
        return question(*args)
    except _NOT_OFFERED:
        return None


def _try(question: Callable[..., Any], *args: Any) -> Any:
    """Ask; None when this one question is not answered, but not when the driver itself is gone."""
    try:
        return question(*args)
    except _DRIVER_GONE:
        raise
    except _Error:
        return None


def _explain(error: Exception) -> str:
    """Say in words an admin can act on why a card cannot be used."""
    if isinstance(error, _nvml.NVMLError_GpuIsLost):
        return "lost: the driver cannot reach it any more; reset it or reboot the machine"
    if isinstance(error, _nvml.NVMLError_ResetRequired):
        return "needs a reset before it can be used again"
    return f"the driver cannot read it: {error}"
