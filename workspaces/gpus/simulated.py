"""Make up the GPUs of a machine from one line of text, for machines that have none.

Not in charge of saying on pages that devices are simulated; it only marks its answers.

The line lists cards, each with the MIG instances it is split into, if any::

    4xA100-40GB,1xH100-80GB:3g.40gb+4g.40gb

UUIDs are derived from the model, its ordinal among the cards of that model, and the instance, so
devices keep their identity over restarts and when cards are added at the end of the line.
"""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NoReturn

from workspaces.gpus.base import (
    SLICES_PER_GPU,
    DeviceInfo,
    DeviceKind,
    DeviceUsage,
    GPUInventory,
    Inventory,
    InventorySettingError,
    MigProfile,
    Source,
    parse_profile,
)

ALLOWED_FORM: Final = (
    "COUNTxMODEL-NNGB, or COUNTxMODEL-NNGB:PROFILE+PROFILE for MIG instances, separated by commas, "
    "as in 4xA100-40GB,1xH100-80GB:3g.40gb+4g.40gb"
)
MAX_CARDS: Final = 64

#: Models with a known ability to be split; any other NAME-NNGB is taken as able to.
KNOWN_MODELS: Final[dict[str, bool]] = {
    "A100-40GB": True,
    "A100-80GB": True,
    "H100-80GB": True,
    "H200-141GB": True,
    "L40S-48GB": False,
    "RTX4090-24GB": False,
    "RTX3090-24GB": False,
    "T4-16GB": False,
    "V100-32GB": False,
}

_GIB: Final = 1024**3
_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "urn:ds01-portal:simulated-gpu")
_COUNT: Final = re.compile(r"(\d{1,6})x", re.IGNORECASE)
_MODEL: Final = re.compile(r"[A-Z0-9](?:[A-Z0-9_.-]*[A-Z0-9_.])?-([1-9]\d{0,3})GB", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Group:
    """Hold one entry of the line: so many cards of one model, all split the same way."""

    count: int
    model: str
    memory_gb: int
    profiles: tuple[MigProfile, ...]


class SimulatedInventory(GPUInventory):
    """Answer for made-up devices as a driver would for real ones."""

    source: Source = "simulated"

    def __init__(self, spec: str) -> None:
        """Read the line after ``simulated:``; raise InventorySettingError where it is wrong."""
        self._devices = tuple(_build_devices(_SpecReader(spec).read()))

    def read(self) -> Inventory:
        """List the made-up devices; the same ones each time."""
        cards = sum(device.kind is DeviceKind.GPU for device in self._devices)
        usable = sum(device.usable for device in self._devices)
        return Inventory(
            source="simulated",
            devices=self._devices,
            message=f"Simulated cards: {cards}; devices to hand out: {usable}. None is real.",
        )

    def usage(self, uuids: Iterable[str]) -> dict[str, DeviceUsage]:
        """Answer "unknown" for all but the size: nothing runs here that could be measured."""
        sizes = {device.uuid: device.memory_bytes for device in self._devices}
        return {
            name: DeviceUsage(uuid=name, memory_total_bytes=sizes.get(name), simulated=True)
            for name in uuids
        }


def _build_devices(groups: Iterable[_Group]) -> Iterator[DeviceInfo]:
    """Lay the groups out as cards 0, 1, 2 and so on, each followed by its instances."""
    ordinals: Counter[str] = Counter()
    index = 0
    for group in groups:
        for _ in range(group.count):
            key = group.model.upper()
            yield from _build_card(group, index=index, name=f"{key}/{ordinals[key]}")
            ordinals[key] += 1
            index += 1


def _build_card(group: _Group, *, index: int, name: str) -> Iterator[DeviceInfo]:
    card_uuid = f"GPU-{uuid.uuid5(_NAMESPACE, name)}"
    yield DeviceInfo(
        uuid=card_uuid,
        kind=DeviceKind.GPU,
        index=index,
        model=group.model,
        memory_bytes=group.memory_gb * _GIB,
        usable=not group.profiles,
        reason="split into MIG instances" if group.profiles else "",
    )
    for mig_index, profile in enumerate(group.profiles):
        yield DeviceInfo(
            uuid=f"MIG-{uuid.uuid5(_NAMESPACE, f'{name}/{mig_index}/{profile.name}')}",
            kind=DeviceKind.MIG,
            index=index,
            mig_index=mig_index,
            parent_uuid=card_uuid,
            model=group.model,
            memory_bytes=profile.memory_gb * _GIB,
            profile=profile.name,
            compute_slices=profile.slices,
            gpueq=profile.gpueq,
        )


class _SpecReader:
    """Read the line, and say at which character it goes wrong."""

    def __init__(self, text: str) -> None:
        self.text = text

    def read(self) -> list[_Group]:
        groups: list[_Group] = []
        for start, part in _split(self.text, 0, ","):
            groups.append(self._read_group(part, start))
            if sum(group.count for group in groups) > MAX_CARDS:
                self._refuse(f"That is more than {MAX_CARDS} cards in all", start)
        return groups

    def _read_group(self, part: str, start: int) -> _Group:
        if not part:
            self._refuse("A card is missing here", start)
        count = _COUNT.match(part)
        if count is None:
            self._refuse(f"{part!r} does not begin with a count such as '4x'", start)
        if not 1 <= int(count[1]) <= MAX_CARDS:
            self._refuse(f"The count must be 1 to {MAX_CARDS}, not {int(count[1])}", start)
        name, colon, layout = part[count.end() :].partition(":")
        at = start + count.end()
        model = _MODEL.fullmatch(name.rstrip())
        if model is None:
            self._refuse(f"{name!r} is no model with its memory, such as 'A100-40GB'", at)
        known = next((known for known in KNOWN_MODELS if known == name.rstrip().upper()), None)
        if colon and known and not KNOWN_MODELS[known]:
            self._refuse(f"{known} cannot be split into MIG instances", at + len(name))
        memory_gb = int(model[1])
        return _Group(
            count=int(count[1]),
            model=known or name.rstrip(),
            memory_gb=memory_gb,
            profiles=self._read_layout(layout, at + len(name) + 1, memory_gb) if colon else (),
        )

    def _read_layout(self, layout: str, start: int, memory_gb: int) -> tuple[MigProfile, ...]:
        profiles: list[MigProfile] = []
        for at, name in _split_profiles(layout, start):
            profile = parse_profile(name)
            if profile is None:
                self._refuse(f"{name!r} is no MIG profile such as '3g.20gb'", at)
            profiles.append(profile)
            if (slices := sum(each.slices for each in profiles)) > SLICES_PER_GPU:
                self._refuse(f"{slices} compute slices, but a card has {SLICES_PER_GPU}", at)
            # Profile names round their memory, by at most half a GB each: 2 x 71 GB fit in 141.
            total_gb = sum(each.memory_gb for each in profiles)
            if 2 * total_gb > 2 * memory_gb + len(profiles):
                self._refuse(f"{total_gb} GB in instances, but the card has {memory_gb} GB", at)
        return tuple(profiles)

    def _refuse(self, problem: str, offset: int) -> NoReturn:
        raise InventorySettingError(
            problem, text=self.text, position=offset + 1, allowed=ALLOWED_FORM
        )


def _split(text: str, start: int, separator: str) -> Iterator[tuple[int, str]]:
    """Cut text at a separator; give each part, without the space around it, and its offset."""
    for raw in text.split(separator):
        yield start + len(raw) - len(raw.lstrip()), raw.strip()
        start += len(raw) + 1


def _split_profiles(layout: str, start: int) -> Iterator[tuple[int, str]]:
    """Cut a layout at each plus that begins a profile, so that ``1g.10gb+me`` stays whole."""
    begin = 0
    for plus in re.finditer(r"\+(?!me\b|gfx\b)", layout):
        yield start + begin, layout[begin : plus.start()].strip()
        begin = plus.end()
    yield start + begin, layout[begin:].strip()
