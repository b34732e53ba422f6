"""Untrusted JSON read field by field, with every trouble collected under its dotted path. Pure.

Not in charge of: what the fields mean (`content`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from catalog.recipes.texts import bad_characters, shorten
from ds01portal.exceptions import InvalidInput

_KINDS = {dict: "a section", list: "a list", str: "a text", bool: "true or false"}


class FieldReader:
    """Reads values of the right kind; for a wrong one it notes a problem and goes on empty."""

    def __init__(self) -> None:
        self.problems: list[InvalidInput] = []

    def refuse(self, field: str, message: str, hint: str = "", **more: Any) -> None:
        """Note a problem with a field."""
        self.problems.append(InvalidInput(message, hint=hint, field=field, **more))

    def section(
        self, data: Mapping[str, Any], field: str, known: Collection[str]
    ) -> dict[str, Any]:
        """Return a section of the data, which may be missing; unknown keys are refused."""
        found = self._take(data, field, dict)
        return self.only_known(found or {}, known, f"{field}.")

    def only_known(
        self, data: Mapping[Any, Any], known: Collection[str], prefix: str = ""
    ) -> dict[str, Any]:
        """Return the known keys of a section, and refuse the others by name."""
        for key in data:
            if key not in known:
                shown = shorten(str(key))
                hint = f"Known are: {', '.join(known)}."
                self.refuse(f"{prefix}{shown}", f"“{prefix}{shown}” is not known.", hint)
        return {key: value for key, value in data.items() if key in known}

    def text(self, data: Mapping[str, Any], field: str, *, longest: int = 300) -> str:
        """Return one line of text, empty when it is missing."""
        found: str = self._take(data, field, str) or ""
        reason = bad_characters(found[: longest + 1])
        if len(found) > longest:
            reason = f"it is longer than {longest} characters"
        if reason:
            self.refuse(
                field, f"“{shorten(found)}” is not allowed: {reason}.", "Shorten or retype it."
            )
            return ""
        return found

    def choice(self, data: Mapping[str, Any], field: str, choices: Collection[str]) -> str:
        """Return one of the choices; the first when it is missing."""
        first = next(iter(choices))
        found = self.text(data, field) if field.rpartition(".")[2] in data else first
        if found in choices:
            return found
        self.refuse(field, f"“{shorten(found)}” is no choice.", f"Choose {', '.join(choices)}.")
        return first

    def texts(self, data: Mapping[str, Any], field: str, *, most: int) -> list[str]:
        """Return a list of texts as typed; what else is in the list is refused by its index."""
        found: list[Any] = self._take(data, field, list) or []
        if len(found) > most:
            self.refuse(field, f"There are more than {most} entries.", "Remove some.", limit=most)
        kept = []
        for index, item in enumerate(found[:most]):
            if isinstance(item, str):
                kept.append(item)
            else:
                self.refuse(field, "An entry is not a text.", "Write a text.", index=index)
        return kept

    def long_text(self, data: Mapping[str, Any], field: str) -> str:
        """Return a text of many lines, unchecked."""
        return self._take(data, field, str) or ""

    def pairs(self, data: Mapping[str, Any], field: str) -> dict[str, str]:
        """Return names and values, both texts."""
        found: dict[Any, Any] = self._take(data, field, dict) or {}
        kept = {}
        for name, value in found.items():
            if isinstance(name, str) and isinstance(value, str):
                kept[name] = value
            else:
                where = f"{field}.{shorten(str(name))}"
                self.refuse(where, "A value is not a text.", "Write the value as a text.")
        return kept

    def flag(self, data: Mapping[str, Any], field: str) -> bool:
        """Return true or false, false when it is missing."""
        return bool(self._take(data, field, bool))

    def _take(self, data: Mapping[str, Any], field: str, kind: type) -> Any:
        key = field.rpartition(".")[2]
        if key not in data:
            return None
        value = data[key]
        if isinstance(value, kind):
            return value
        self.refuse(field, f"“{field}” must be {_KINDS[kind]}.", "Send it in the right form.")
        return None
