"""Names: of custom images (a part of a Docker reference) and of Python packages (PEP 503). Pure."""

from __future__ import annotations

import re
import unicodedata

from packaging.utils import canonicalize_name

from catalog.recipes.texts import shorten
from ds01portal.exceptions import InvalidInput

MAX_NAME = 60
RESERVED = frozenset({"latest"})
RESERVED_PREFIX = "ds01-"

_NAME = re.compile(r"[a-z0-9]+(?:(?:__|[._-])[a-z0-9]+)*")


def check_image_name(name: str) -> str:
    """Return the name; raise InvalidInput with a suggestion when Docker would not take it."""
    reason = _name_trouble(name)
    if not reason:
        return name
    suggestion = suggest_image_name(name)
    hint = f"Try “{suggestion}”. " if suggestion and suggestion != name else ""
    raise InvalidInput(
        f"“{shorten(name)}” cannot be an image's name: {reason}.",
        hint=hint + "Small letters and digits, with single '.', '_' or '-' between them.",
        field="name",
        value=shorten(name),
        suggestion=suggestion,
    )


def suggest_image_name(text: str) -> str:
    """Return the nearest allowed name; empty when nothing usable is left of the text."""
    plain = unicodedata.normalize("NFKD", text[:1000]).lower()
    plain = re.sub(r"[^a-z0-9._-]", "", re.sub(r"\s+", "-", plain))
    plain = re.sub(r"[._-]*-[._-]*|[._]*\.[._]*|_{3,}", _one_separator, plain).strip("._-")
    while plain.startswith(RESERVED_PREFIX):
        plain = plain.removeprefix(RESERVED_PREFIX).strip("._-")
    plain = plain[:MAX_NAME].strip("._-")
    return "" if plain in RESERVED else plain


def canonical_name(name: str) -> str:
    """Return the one spelling of a Python package's name (`Foo_Bar.x` → `foo-bar-x`)."""
    return str(canonicalize_name(name))


def _one_separator(match: re.Match[str]) -> str:
    run = match[0]
    return "-" if "-" in run else "." if "." in run else "_"


def _name_trouble(name: str) -> str:
    if not name:
        return "it is empty"
    if len(name) > MAX_NAME:
        return f"it is longer than {MAX_NAME} characters"
    if not _NAME.fullmatch(name):
        if _NAME.fullmatch(name.lower()):
            return "capital letters are not allowed"
        return "it has characters that are not allowed, or separators at a wrong place"
    if name in RESERVED:
        return "the word is reserved"
    if name.startswith(RESERVED_PREFIX):
        return f"names that begin with {RESERVED_PREFIX} are the portal's own"
    return ""
