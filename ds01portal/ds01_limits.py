"""Read DS01's `resource-limits.yaml`: text → layers of limits, and what became of every key.

DS01's rules: null means unlimited, a missing key inherits, hours are numbers, `memory_swap`
counts memory and swap together, and where no `aggregate` is written the totals have no bound.
Unlike DS01, zero is zero, and personal overrides inherit field by field. Pure: knows no model.
Not in charge of: which groups and people exist (services.limits_import).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ds01portal.ds01_layers import Ds01Limits, Fate, Layer
from ds01portal.ds01_values import (
    FIELDS,
    IGNORED,
    POLICIES,
    SECTIONS_IGNORED,
    read_date,
    read_field,
    read_hours,
    read_number,
    read_percent,
)
from ds01portal.limits import UNLIMITED, UNSET, Limit, Special, Unit, format_limit
from ds01portal.strict_yaml import Branch, bad_yaml, read_yaml


def parse_limits(text: str | bytes) -> Ds01Limits:
    """Return the file's layers. Raise InvalidInput with the line of the first trouble."""
    root = read_yaml(text)
    sections = _section(root, "the file").fields
    if "defaults" not in sections:
        raise bad_yaml(1, "there is no section “defaults”.", "Is this a limits file of DS01?")
    result = Ds01Limits(defaults=Layer(line=sections["defaults"].line))
    _read_layer(result, result.defaults, "defaults", sections["defaults"], None)
    for number, (name, branch) in enumerate(_members(sections, "groups"), start=1):
        result.groups[name] = layer = Layer(line=branch.line)
        _read_layer(result, layer, f"groups.{name}", branch, result.defaults)
        result.note(f"groups.{name}", branch, Fate.USED, f"group with priority {10 * number}")
    for name, branch in _members(sections, "user_overrides"):
        result.people[name] = layer = Layer(line=branch.line)
        _read_layer(result, layer, f"user_overrides.{name}", branch, result.defaults)
    for name, branch in sections.items():
        _read_section(result, name, branch)
    result.notes.sort(key=lambda note: note.line)
    return result


def _members(sections: dict[str, Branch], name: str) -> Iterator[tuple[str, Branch]]:
    if name in sections:
        for key, branch in _section(sections[name], name).fields.items():
            if not key.strip() or len(key) > 150:
                raise bad_yaml(branch.line, f"{name} has a name that is empty or too long.")
            yield key, branch


def _section(branch: Branch, path: str) -> Branch:
    if branch.value is not None and not isinstance(branch.value, dict):
        raise bad_yaml(branch.line, f"{path} must be a section of keys.")
    return branch


def _read_section(result: Ds01Limits, name: str, branch: Branch) -> None:
    if name in ("defaults", "groups", "user_overrides"):
        if not branch.fields:
            result.note(name, branch, Fate.IGNORED, "empty section")
    elif name == "default_group":
        if not isinstance(branch.value, str) or not branch.value:
            raise bad_yaml(branch.line, "default_group must be the name of a group.")
        result.default_group = branch.value
        result.note(name, branch, Fate.USED, "counts for people who are in no group")
    elif name == "policies":
        _read_policies(result, result.defaults, name, branch)
    elif name == "container_types":
        _read_container_types(result, branch)
    else:
        reason = SECTIONS_IGNORED.get(name, "unknown section")
        _ignore_all(result, name, branch, reason)


def _read_layer(
    result: Ds01Limits, layer: Layer, path: str, branch: Branch, defaults: Layer | None
) -> None:
    """Read the keys of one layer; swap and totals come last, they depend on others."""
    fields = _section(branch, path).fields
    for key, value in fields.items():
        _read_key(result, layer, f"{path}.{key}", key, value, fields)
    if "memory_swap" in fields:
        where = f"{path}.memory_swap"
        _read_swap(result, layer, where, fields["memory_swap"], defaults)
    if "aggregate" in fields and fields["aggregate"].value is not None:
        _read_aggregate(result, layer, f"{path}.aggregate", fields["aggregate"])
    elif "aggregate" in fields or defaults is None:
        layer.limits |= {"total_cpus": UNLIMITED, "total_memory": UNLIMITED}
        note = "no bound for all containers together (unlimited), as DS01 reads it"
        place = fields.get("aggregate", branch)
        result.note(f"{path}.aggregate", place, Fate.USED, f"not set: {note}")


def _read_key(
    result: Ds01Limits,
    layer: Layer,
    path: str,
    key: str,
    branch: Branch,
    fields: dict[str, Branch],
) -> None:
    if key in ("memory_swap", "aggregate"):
        return  # read afterwards
    if key == "policies":
        _read_policies(result, layer, path, branch)
    elif key == "reason" and isinstance(branch.value, str):
        layer.reason = branch.value[:300]
        result.note(path, branch, Fate.USED, "reason of the quota")
    elif key in ("expires_on", "expires") and path.startswith("user_overrides."):
        layer.expires_at = read_date(branch, path)
        result.note(path, branch, Fate.USED, "end of the personal quota")
    elif key in FIELDS:
        _read_limit(result, layer, path, key, branch, fields)
    else:
        _ignore_all(result, path, branch, IGNORED.get(key, "unknown key"))


def _read_limit(
    result: Ds01Limits,
    layer: Layer,
    path: str,
    key: str,
    branch: Branch,
    fields: dict[str, Branch],
) -> None:
    target = FIELDS[key]
    value = read_field(target, branch, path)
    names = [name for name, other in FIELDS.items() if other.limit == target.limit]
    first = next(name for name in names if name in fields)
    if first != key:
        result.note(path, branch, Fate.IGNORED, f"older name; {first} is there and counts")
        return
    layer.limits[target.limit] = value
    alias = "" if key == names[0] else f" (older name of {names[0]})"
    text = format_limit(value, target.unit)
    result.note(path, branch, Fate.USED, f"{target.limit} = {text}{alias}")


def _read_swap(
    result: Ds01Limits, layer: Layer, path: str, branch: Branch, defaults: Layer | None
) -> None:
    """Docker's memory_swap is memory and swap together; here swap comes on top of memory."""
    total = read_field(FIELDS["memory"], branch, path)
    memory = layer.limits.get("memory", UNSET)
    if memory is UNSET and defaults is not None:
        memory = defaults.limits.get("memory", UNSET)
    if isinstance(memory, Special) and not isinstance(total, Special):
        raise bad_yaml(branch.line, f"{path} is a number, but memory is not.", "Set both.")
    swap: Limit = UNLIMITED
    if not isinstance(total, Special) and not isinstance(memory, Special):
        if total < memory:
            raise bad_yaml(
                branch.line,
                f"{path} is less than memory.",
                "It counts memory and swap together; write the same as memory for no swap.",
            )
        swap = total - memory
    layer.limits["swap"] = swap
    text = format_limit(swap, Unit.BYTES)
    result.note(path, branch, Fate.USED, f"swap = {text}: on top of memory, not together with it")


def _read_aggregate(result: Ds01Limits, layer: Layer, path: str, branch: Branch) -> None:
    for key, value in _section(branch, path).fields.items():
        where = f"{path}.{key}"
        if key == "cpu_quota":
            limit = layer.limits["total_cpus"] = read_percent(value, where)
            text = f"total_cpus = {format_limit(limit, Unit.CORES)}"
            result.note(where, value, Fate.USED, f"{text} (100% is one core)")
        elif key == "memory_max":
            limit = layer.limits["total_memory"] = read_field(FIELDS["memory"], value, where)
            result.note(
                where, value, Fate.USED, f"total_memory = {format_limit(limit, Unit.BYTES)}"
            )
        elif key == "gpu_limit":
            _read_gpu_limit(result, layer, where, value)
        else:
            _ignore_all(result, where, value, IGNORED.get(key, "unknown key"))


def _read_gpu_limit(result: Ds01Limits, layer: Layer, path: str, branch: Branch) -> None:
    limit = read_field(FIELDS["max_gpu_equivalents"], branch, path)
    other = layer.limits.get("gpueq", UNSET)
    text = format_limit(limit, Unit.GPUEQ)
    tighter = other in (UNSET, UNLIMITED) or (
        not isinstance(other, Special) and not isinstance(limit, Special) and limit < other
    )
    if tighter and other != limit and not (other is UNSET and limit is UNLIMITED):
        layer.limits["gpueq"] = limit
        result.note(path, branch, Fate.USED, f"gpueq = {text}: of two limits the lower counts")
    else:
        result.note(path, branch, Fate.IGNORED, "max_gpu_equivalents is as low and counts")


def _read_policies(result: Ds01Limits, layer: Layer, path: str, branch: Branch) -> None:
    fields = _section(branch, path).fields
    if not fields:
        result.note(path, branch, Fate.IGNORED, "empty section")
    for key, value in fields.items():
        where = f"{path}.{key}"
        if key in POLICIES and value.value is None:
            result.note(where, value, Fate.IGNORED, "empty: the general threshold counts")
        elif key in POLICIES:
            layer.policies[key] = read_number(value, where)
            result.note(where, value, Fate.STORED, POLICIES[key])
        else:
            _ignore_all(result, where, value, IGNORED.get(key, "unknown key"))


def _read_container_types(result: Ds01Limits, branch: Branch) -> None:
    types: dict[str, Any] = {}
    for kind, section in _section(branch, "container_types").fields.items():
        types[kind] = {}
        for key, value in _section(section, f"container_types.{kind}").fields.items():
            where = f"container_types.{kind}.{key}"
            if key in ("idle_timeout_h", "max_runtime_h"):
                limit = read_hours(value, where)
                types[kind][key.removesuffix("_h")] = (
                    "unlimited" if isinstance(limit, Special) else limit
                )
                text = format_limit(limit, Unit.SECONDS)
                result.note(where, value, Fate.STORED, f"{text}, for containers made elsewhere")
            elif key == "sigterm_grace_s":
                types[kind][key] = read_number(value, where)
                result.note(where, value, Fate.STORED, POLICIES[key])
            else:
                _ignore_all(result, where, value, "unknown key")
    if types:
        result.defaults.policies["container_types"] = types
    else:
        result.note("container_types", branch, Fate.IGNORED, "empty section")


def _ignore_all(result: Ds01Limits, path: str, branch: Branch, reason: str) -> None:
    """Note every key below a key that has no use here."""
    if isinstance(branch.value, dict) and branch.value:
        for key, value in branch.value.items():
            _ignore_all(result, f"{path}.{key}", value, IGNORED.get(key, reason))
    elif branch.value is None or branch.value == {}:
        result.note(path, branch, Fate.IGNORED, f"empty; {reason}")
    else:
        result.note(path, branch, Fate.IGNORED, reason)
