"""Know the GPUs of this machine: read from the NVIDIA driver, or simulated from one setting.

Not in charge of who gets which device; see the assignment services for that.
"""

from workspaces.gpus.base import (
    DeviceInfo,
    DeviceKind,
    DeviceUsage,
    GPUInventory,
    Inventory,
    InventoryError,
    InventorySettingError,
    NoInventory,
    Source,
)
from workspaces.gpus.simulated import ALLOWED_FORM, SimulatedInventory

__all__ = [
    "DeviceInfo",
    "DeviceKind",
    "DeviceUsage",
    "GPUInventory",
    "Inventory",
    "InventoryError",
    "InventorySettingError",
    "Source",
    "get_inventory",
]

_SIMULATED = "simulated:"


def get_inventory(setting: str) -> GPUInventory:
    """Choose the inventory that a setting names: ``nvml``, ``simulated:...`` or ``none``.

    Depends on the text alone and asks no hardware, so a system check can call it.
    Raise InventorySettingError for anything else, also for an empty text: there is no default.
    """
    text = setting.strip()
    if text == "nvml":
        # Imported late so that a machine told to simulate never needs the NVIDIA binding.
        from workspaces.gpus.nvml import NvmlInventory

        return NvmlInventory()
    if text == "none":
        return NoInventory()
    if text.startswith(_SIMULATED):
        return SimulatedInventory(text.removeprefix(_SIMULATED))
    raise InventorySettingError(
        "This names no GPU inventory",
        text=setting,
        position=1,
        allowed=f"'nvml', 'none' or '{_SIMULATED}' followed by {ALLOWED_FORM}",
    )
