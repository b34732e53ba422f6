"""Characters that may not be in what people type, whichever field it is. Pure.

Line separators that people do not see (U+2028, form feed, …) matter: pip splits a requirements
file at every one of them, so a comment could hide a package. Not in charge of: what a field means.
"""

from __future__ import annotations

import re
import unicodedata

_LINES = re.compile(r"\r\n|\r|\n")
SHOWN = 60  # characters of a person's text repeated in a message


def bad_characters(text: str, *, ascii_only: bool = False) -> str:
    """Return why the text of one line is refused, empty when it is fine.

    Refused are control characters (tab included), line separators, invisible and
    direction-changing characters, lone surrogates, and with `ascii_only` whatever is not ASCII.
    """
    if text.isascii() and text.isprintable():
        return ""
    for character in text:
        if not character.isprintable():
            return f"it has {describe_character(character)}, which cannot be seen"
        if ascii_only and not character.isascii():
            return f"it has {describe_character(character)}; only ASCII characters are allowed"
    return ""


def describe_character(character: str) -> str:
    """Return the character's code point and name, and itself when it can be shown."""
    shown = f"“{character}” " if character.isprintable() else ""
    name = unicodedata.name(character, "") or unicodedata.category(character)
    return f"the character {shown}U+{ord(character):04X} ({name})"


def shorten(text: str, length: int = SHOWN) -> str:
    """Return the beginning of a text for a message, its unseen characters written out."""
    cut = text if len(text) <= length else text[: length - 1] + "…"
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in cut)


def split_lines(text: str) -> list[str]:
    """Return the physical lines of a text, a byte order mark removed; `\\n`, `\\r\\n` or `\\r`."""
    return _LINES.split(text.removeprefix("\ufeff"))
