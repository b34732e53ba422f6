"""What differs: between two sets of installed packages, and between two recipes. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from catalog.recipes.content import Base, Layer, RecipeContent
from catalog.recipes.names import canonical_name


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Packages by canonical name: `added` and `removed` with version, `changed` old → new."""

    added: Mapping[str, str]
    removed: Mapping[str, str]
    changed: Mapping[str, tuple[str, str]]

    @property
    def is_empty(self) -> bool:
        """Say whether nothing differs."""
        return not (self.added or self.removed or self.changed)


def compare_packages(before: Mapping[str, str], after: Mapping[str, str]) -> Difference:
    """Return what changed; names are folded (PEP 503), an unknown version ("") never differs."""
    old = {canonical_name(name): version for name, version in before.items()}
    new = {canonical_name(name): version for name, version in after.items()}
    both = sorted(old.keys() & new.keys())
    return Difference(
        added={name: new[name] for name in sorted(new.keys() - old.keys())},
        removed={name: old[name] for name in sorted(old.keys() - new.keys())},
        changed={
            name: (old[name], new[name])
            for name in both
            if old[name] and new[name] and old[name] != new[name]
        },
    )


def compare_contents(before: RecipeContent, after: RecipeContent) -> tuple[str, ...]:
    """Return a readable line for each thing that differs; values of variables are not shown."""
    lines = [
        *_changed("Base", describe_base(before.base), describe_base(after.base)),
        *_compare_layers("Jupyter", before.jupyter, after.jupyter),
        *_compare_layers("Data science", before.data_science, after.data_science),
        *_changed("Use case", before.use_case or "none", after.use_case or "none"),
        *_compare_lists("Use case packages", before.use_case_packages, after.use_case_packages),
        *_compare_texts(before.requirements, after.requirements),
        *_compare_lists("System packages", before.apt, after.apt),
        *_compare_environments(before.environment, after.environment),
        *_compare_lists("Post-install", before.post_install, after.post_install),
    ]
    if before.fresh != after.fresh:
        lines.append("Built without the cache" if after.fresh else "Built with the cache")
    return tuple(lines)


def describe_base(base: Base) -> str:
    """Return the base as people read it."""
    if base.kind == "catalog":
        words = (base.framework, base.version or "newest", base.architecture)
        return " ".join(word for word in words if word)
    return base.image or base.reference


def _changed(what: str, before: str, after: str) -> list[str]:
    return [] if before == after else [f"{what}: {before} → {after}"]


def _compare_layers(what: str, before: Layer, after: Layer) -> list[str]:
    return [
        *_changed(what, before.choice, after.choice),
        *_compare_lists(f"{what} packages", before.packages, after.packages),
    ]


def _compare_lists(what: str, before: Sequence[str], after: Sequence[str]) -> list[str]:
    lines = [f"{what}: + {item}" for item in after if item not in before]
    lines += [f"{what}: − {item}" for item in before if item not in after]
    if not lines and tuple(before) != tuple(after):
        lines.append(f"{what}: another order")
    return lines


def _compare_texts(before: str, after: str) -> list[str]:
    old, new = before.splitlines(), after.splitlines()
    signs = {"+ ": "+", "- ": "−"}
    lines = [
        f"Requirements: {signs[line[:2]]} {line[2:].strip()}"
        for line in difflib.ndiff(old, new)
        if line[:2] in signs and line[2:].strip()
    ]
    return lines or (["Requirements: blank lines"] if old != new else [])


def _compare_environments(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    lines = [f"Variables: + {name}" for name in after if name not in before]
    lines += [f"Variables: − {name}" for name in before if name not in after]
    both = (name for name in after if name in before)
    return lines + [f"Variables: {name} changed" for name in both if before[name] != after[name]]
