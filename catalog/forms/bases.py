"""A base as one value of a radio button: `catalog:pytorch:2.7.1:`, `custom:alice/thesis:3`.

Not in charge of: whether the base exists or may be used (`services.recipe_bases`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from catalog.architectures import HostArchitecture
from catalog.browsing import judge
from catalog.models import Image

REFERENCE = "reference"  # its name is typed into a field of its own


def base_key(base: Mapping[str, Any]) -> str:
    """Return the value of a recipe's base."""
    kind = base.get("kind", "catalog")
    if kind == "custom":
        return f"custom:{base.get('image', '')}"
    if kind == "reference":
        return REFERENCE
    parts = (base.get("framework", ""), base.get("version", ""), base.get("architecture", ""))
    return ":".join(("catalog", *(str(part) for part in parts)))


def read_base(key: str, reference: str) -> dict[str, str]:
    """Return the base of a value; what is no such value becomes an empty base, to be refused."""
    kind, _colon, rest = key.partition(":")
    if kind == "custom":
        return {"kind": "custom", "image": rest}
    if kind == REFERENCE:
        return {"kind": "reference", "reference": rest or reference.strip()}
    framework, version, architecture = [*rest.split(":", 2), "", ""][:3]
    return {
        "kind": "catalog",
        "framework": framework,
        "version": version,
        "architecture": architecture,
    }


def image_key(image: Image, host: HostArchitecture) -> str:
    """Return the value that asks for exactly this image."""
    if image.kind == Image.Kind.CUSTOM and image.recipe is not None:
        return f"custom:{image.recipe.owner.username}/{image.recipe.name}:{image.number}"
    if image.kind == Image.Kind.LOCAL:
        return f"{REFERENCE}:{image.reference}"
    fits = judge(image, host).fits
    architecture = "" if fits else next(iter(image.architecture_list), "")
    return f"catalog:{image.framework_slug}:{image.version}:{architecture}"


def describe_base(base: Mapping[str, Any]) -> str:
    """Return a base in a few words."""
    if base.get("kind") == "custom":
        return str(base.get("image", ""))
    if base.get("kind") == "reference":
        return str(base.get("reference", ""))
    parts = (base.get("framework", ""), base.get("version", ""), base.get("architecture", ""))
    return " ".join(str(part) for part in parts if part)
