"""A Dockerfile as HTML: escaped, with comments and instructions marked for reading."""

from __future__ import annotations

import re

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

_INSTRUCTION = re.compile(r"(FROM|USER|WORKDIR|RUN|ENV|LABEL|HEALTHCHECK|ENTRYPOINT|CMD)(?= )")


def render_dockerfile(text: str) -> SafeString:
    """Return the text with `df-key` and `df-note` elements; its characters stay the same."""
    parts = []
    goes_on = False
    for line in text.split("\n"):
        found = None if goes_on else _INSTRUCTION.match(line)
        if line.startswith("#"):
            parts.append(f'<span class="df-note">{escape(line)}</span>')
        elif found:
            rest = escape(line[found.end() :])
            parts.append(f'<span class="df-key">{found[1]}</span>{rest}')
        else:
            parts.append(escape(line))
        goes_on = line.endswith("\\")
    return mark_safe("\n".join(parts))  # noqa: S308 - every part is escaped above
