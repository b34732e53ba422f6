"""Lines of a log as HTML: escaped, colours as classes, everything else a terminal would obey gone.

Whoever writes a log may try to write the page: text is escaped, and only the numbers of the
colours below choose a class. Not in charge of: where the log comes from, how classes look
(static/css/recipes.css).
"""

from __future__ import annotations

import re

from django.utils.html import escape

MAX_RUNS = 200  # coloured pieces of one line; what comes after that is plain
MAX_LINE = 20_000  # characters of one line that are shown
_SEQUENCE = re.compile(
    r"\x1b\[(?P<sgr>[0-9;:]{0,40})m"  # colours
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # cursor moves and the like, colours too long to be any
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # titles, links, device strings
    r"|\x1b[ -/]*[0-~]?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"  # unseen, reordering
)
_ATTRIBUTES = {1: "b", 2: "dim", 3: "i", 4: "u", 9: "s"}
_ENDS = {22: ("b", "dim"), 23: ("i",), 24: ("u",), 29: ("s",)}


# How pip, apt and compilers begin a line that matters; without a terminal they use no colours.
_ERROR = re.compile(r"\s*(?:ERROR|error|E|fatal)(?:\b[^:\n]{0,40})?: ")
_WARNING = re.compile(r"\s*(?:WARNING|warning|W|DEPRECATION)(?:\b[^:\n]{0,40})?: ")


def render_lines(text: str) -> str:
    """Return each line as an element with the class `ln`; colours end with the line."""
    return "".join(
        f'<span class="{line_class(line)}">{render_line(line)}\n</span>'
        for line in text.split("\n")
    )


def line_class(line: str) -> str:
    """Return the class of a line: one that tells of an error or a warning is coloured whole."""
    if _ERROR.match(line):
        return "ln ln-error"
    return "ln ln-warning" if _WARNING.match(line) else "ln"


def plain_text(text: str) -> str:
    """Return the lines without sequences, for a file."""
    return _SEQUENCE.sub("", text)


def render_line(line: str) -> str:
    """Return one line. What was overwritten after a carriage return is left out."""
    line = line.rstrip("\r").rpartition("\r")[2]
    if len(line) > MAX_LINE:
        line = f"{line[:MAX_LINE]} …"
    parts: list[str] = []
    style: dict[str, str] = {}
    at = 0
    for found in _SEQUENCE.finditer(line):
        if found.start() > at:
            parts.append(_run(line[at : found.start()], style))
        at = found.end()
        codes = found.group("sgr")
        if codes is not None:
            style = _apply(style, codes) if len(parts) < MAX_RUNS else {}
    if at < len(line):
        parts.append(_run(line[at:], style))
    return "".join(parts)


def _run(text: str, style: dict[str, str]) -> str:
    if not style:
        return escape(text)
    classes = " ".join(f"sgr-{value}" for value in style.values())
    return f'<span class="{classes}">{escape(text)}</span>'


def _apply(style: dict[str, str], codes: str) -> dict[str, str]:
    """Return the style after a sequence; 256 and true colours are passed over."""
    style = dict(style)
    numbers = [int(code or 0) if len(code) < 4 else -1 for code in codes.split(";")[:16]
               if ":" not in code]  # fmt: skip
    while numbers:
        code = numbers.pop(0)
        if code == 0:
            style.clear()
        elif code in (38, 48):
            del numbers[: {5: 2, 2: 4}.get(numbers[0] if numbers else 0, 0)]
        elif code in _ATTRIBUTES:
            style[_ATTRIBUTES[code]] = _ATTRIBUTES[code]
        elif code in _ENDS:
            for name in _ENDS[code]:
                style.pop(name, None)
        elif 30 <= code <= 37 or 90 <= code <= 97:
            style["fg"] = str(code)
        elif 40 <= code <= 47 or 100 <= code <= 107:
            style["bg"] = str(code)
        elif code in (39, 49):
            style.pop("fg" if code == 39 else "bg", None)
    return style
