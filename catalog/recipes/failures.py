"""The end of a build's log as a plain explanation: what went wrong, and what to do next. Pure.

Texts are those of pip, apt, gcc and the shell in English, as the steps run without a locale. The
last lines count most: causes are tried in the order of certainty, and the first that fits wins.
Not in charge of: cancelling and time limits, which the builder knows itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from catalog.recipes.failure_causes import CAUSES, Cause
from catalog.recipes.masking import Masker

KILLED = 137  # 128 + SIGKILL
MAX_LINES = (
    300  # of the log's end; what is looked at is bounded, because a build may write anything
)
MAX_WIDTH = 1000
_MEMORY = re.compile(
    r"^Killed$|\bMemoryError\b|Cannot allocate memory|out of memory"
    r"|Killed signal terminated program|signal 9\b|SIGKILL",
    re.MULTILINE | re.IGNORECASE,
)
_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """Why a step failed. `code` is stable; `family` as in `ds01portal.exceptions`."""

    code: str
    family: str
    message: str
    hint: str


def explain_failure(
    *, exit_code: int | None, oom_killed: bool, tail: Sequence[str], title: str
) -> Explanation:
    """Return the explanation of a failed step from its exit code and its last lines."""
    masker = Masker()
    lines = [_COLOUR.sub("", masker.mask(_cut(line))) for line in tail[-MAX_LINES:]]
    text = "\n".join(line for part in lines for line in part.split("\n"))
    if oom_killed or _was_killed_for_memory(exit_code, text):
        return _out_of_memory(title)
    for cause in CAUSES:
        match = cause.pattern.search(text)
        if match:
            return _explain(cause, match, title)
    if exit_code == KILLED:
        return Explanation(
            code="killed",
            family="engine",
            message=f"“{title}” was ended from outside.",
            hint="Build again; if it happens again, tell an admin.",
        )
    code = "" if exit_code is None else f" (exit code {exit_code})"
    return Explanation(
        code="unknown",
        family="user",
        message=f"“{title}” failed{code}.",
        hint="The last lines of the log say why.",
    )


def _cut(line: str) -> str:
    """Return a long line without its middle: pip's lists name the newest versions last."""
    if len(line) <= MAX_WIDTH:
        return line
    half = MAX_WIDTH // 2
    # Whole words only, so that no part of a masked one is left beside the gap.
    return f"{line[:half].rpartition(' ')[0]} … {line[-half:].partition(' ')[2]}"


def _explain(cause: Cause, match: re.Match[str], title: str) -> Explanation:
    words = {name: (value or "").strip(" '\"") for name, value in match.groupdict().items()}
    if cause.refine:
        words = cause.refine(words)
    fill: Callable[[str], str] = lambda text: text.format(title=title, **words)  # noqa: E731
    return Explanation(
        code=cause.code, family=cause.family, message=fill(cause.message), hint=fill(cause.hint)
    )


def _was_killed_for_memory(exit_code: int | None, text: str) -> bool:
    last = text[-2000:]
    return exit_code != 0 and _MEMORY.search(last) is not None


def _out_of_memory(title: str) -> Explanation:
    return Explanation(
        code="out-of-memory",
        family="out_of_memory",
        message=f"“{title}” needed more memory than a build may have.",
        hint="Choose versions that come ready-made (wheels), install fewer packages, or ask an"
        " admin for more memory.",
    )
