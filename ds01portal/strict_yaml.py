"""YAML as plain trees whose every value knows its line; anything surprising is refused.

Refused are aliases and anchors, tags, duplicate keys, several documents, keys that are not
text, numbers that YAML reads unlike people (octal, base 60, infinity), great size and depth.
Pure: knows no limit and no model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import yaml

from ds01portal.exceptions import InvalidInput

MAX_CHARACTERS: Final = 1_000_000
MAX_DEPTH: Final = 20
Scalar = None | bool | int | float | str


@dataclass(frozen=True, slots=True)
class Branch:
    """One value of the file with the line (from 1) where it begins."""

    line: int
    value: Scalar | list[Branch] | dict[str, Branch]

    @property
    def fields(self) -> dict[str, Branch]:
        """Return the members of a section; an empty section has none."""
        return self.value if isinstance(self.value, dict) else {}

    def plain(self) -> object:
        """Return the value without lines."""
        if isinstance(self.value, dict):
            return {key: branch.plain() for key, branch in self.value.items()}
        if isinstance(self.value, list):
            return [branch.plain() for branch in self.value]
        return self.value


def bad_yaml(line: int, message: str, hint: str = "") -> InvalidInput:
    """Return the error for a line of the file."""
    return InvalidInput(f"Line {line}: {message}", hint=hint, field="file", line=line)


def read_yaml(text: str | bytes) -> Branch:
    """Return the tree of one document. Raise InvalidInput with the line of the first trouble."""
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise bad_yaml(line, "the file is not UTF-8.") from error
    if len(text) > MAX_CHARACTERS:
        raise bad_yaml(1, f"the file has more than {MAX_CHARACTERS} characters.")
    try:
        _check_events(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise bad_yaml(line, f"this is not YAML: {error.problem or error.context}.") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise bad_yaml(line, f"this is not YAML: {error.reason}.") from error
    if node is None:
        raise bad_yaml(1, "the file is empty.")
    return _read_node(node)


def _check_events(text: str) -> None:
    """Refuse what could blow up, before anything is built from it."""
    depth = documents = 0
    for event in _parse_events(text):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise bad_yaml(line, "a second document begins.", "Keep one per file.")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise bad_yaml(line, "anchors and aliases (& and *) are not read.", "Write it out.")
        tag = getattr(event, "tag", None)
        if tag:
            raise bad_yaml(line, f"the tag {str(tag)[:60]} is not read.", "Remove it.")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise bad_yaml(line, f"sections are nested more than {MAX_DEPTH} deep.")


def _parse_events(text: str) -> Iterator[yaml.Event]:
    try:
        yield from yaml.parse(text, Loader=yaml.SafeLoader)
    except RecursionError as error:
        raise bad_yaml(1, "sections are nested too deep.") from error


def _read_node(node: yaml.Node) -> Branch:
    line = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        return Branch(line, [_read_node(item) for item in node.value])
    if isinstance(node, yaml.MappingNode):
        fields: dict[str, Branch] = {}
        for key_node, value_node in node.value:
            key = _read_key(key_node)
            if key in fields:
                message = f"“{key[:60]}” is there twice (first in line {fields[key].line})."
                raise bad_yaml(key_node.start_mark.line + 1, message, "Keep one of them.")
            fields[key] = Branch(key_node.start_mark.line + 1, _read_node(value_node).value)
        return Branch(line, fields)
    return Branch(line, _read_scalar(node))


def _read_key(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode) or node.tag == "tag:yaml.org,2002:merge":
        raise bad_yaml(node.start_mark.line + 1, "a key is not plain text.")
    return str(node.value)


def _read_scalar(node: yaml.Node) -> Scalar:
    line, text, kind = node.start_mark.line + 1, str(node.value), node.tag.rpartition(":")[2]
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() in ("yes", "true", "on")
    if kind == "int":
        if not re.fullmatch(r"[-+]?(0|[1-9][0-9]{0,17})", text):
            raise bad_yaml(line, f"{text[:40]} is not a plain whole number.", "Write digits only.")
        return int(text)
    if kind == "float":
        number = float(text) if re.fullmatch(r"[-+]?[0-9.]+(e[-+]?[0-9]+)?", text, re.I) else None
        if number is None or not math.isfinite(number):
            raise bad_yaml(line, f"{text[:40]} is not a plain number.", "Write null for no limit.")
        return number
    return text
