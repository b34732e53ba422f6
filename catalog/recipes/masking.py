"""Secrets taken out of a build's log before it is kept or shown. Pure.

What is masked: the values a caller names, passwords in addresses, authorisation headers, values of
password options, tokens of well-known services. Control characters go, colours stay. Works line
by line, so a secret broken over two lines is not found. Not in charge of: how much is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MASK = "•••"
MAX_LINE = 4000  # characters of one line
_LOOKED_AT = 4 * MAX_LINE
MIN_SECRET = 4  # shorter values would mask half of the log

_COLOUR = r"\x1b\[[0-9;:]{0,40}m"
# Whole escape sequences first, so that their printable rest does not stay behind.
_ESCAPES = re.compile(
    rf"({_COLOUR})"
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # cursor movement and the like
    r"|\x1b\][^\x07\x1b\n]*(?:\x07|\x1b\\)"  # titles, links
    r"|\x1b[@-Z\\-_]"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ufeff]"
)
_URL = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]{0,20}://)[^\s/?#'\"<>]{1,500}@")
_HEADER = re.compile(
    r"(?i)\b((?:proxy-)?authorization|x-api-key|private-token)(['\"]?\s*[:=]\s*['\"]?)"
    r"((?:basic|bearer|token|digest)\s+)?[^\s'\",;]+"
)
_OPTION = re.compile(
    r"(?i)((?:--?|\b)[a-z0-9_-]{0,40}(?:password|passwd|passphrase|secret|token|api[_-]?key)"
    r"[a-z0-9_]{0,20}['\"]?\s{0,3}[=:]\s{0,3})(\"[^\"]*\"|'[^']*'|[^\s&;,'\"]+)"
)
_SPACED = re.compile(r"(?i)(--(?:[a-z0-9-]{0,40})(?:password|token|secret|api-key)\s+)([^\s-]\S*)")
_TOKENS = re.compile(
    r"\b(?:gh[opsur]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}"
    r"|hf_[A-Za-z0-9]{16,}|sk-[A-Za-z0-9_-]{20,}|pypi-[A-Za-z0-9_-]{30,}|xox[abprs]-[A-Za-z0-9-]{10,}"
    r"|AKIA[A-Z0-9]{16}|npm_[A-Za-z0-9]{30,}|dckr_pat_[A-Za-z0-9_-]{20,}"
    r"|eyJ[A-Za-z0-9_-]{10,2000}\.eyJ[A-Za-z0-9_-]{10,2000}\.[A-Za-z0-9_-]{0,2000})"
)


# Most lines have none of these words, and the patterns above are dear.
_SUSPICIOUS = re.compile(r"(?i)auth|pass|secret|token|key")


class Masker:
    """Masks the secrets of one build. Secrets shorter than 4 characters are not masked."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        found = {part for secret in secrets for part in _spellings(secret)}
        # The longest first, so that a secret within another one leaves no rest.
        ordered = sorted(found, key=lambda secret: (-len(secret), secret))
        self._literal = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def mask(self, text: str) -> str:
        """Return the text, possibly of several lines, fit for keeping and showing."""
        return "\n".join(self._mask_line(line) for line in text.split("\n"))

    def _mask_line(self, line: str) -> str:
        # Longer than what is kept, so that a secret at the cut is masked before it is cut.
        clean = _ESCAPES.sub(lambda match: match[1] or "", line[:_LOOKED_AT])
        if self._literal:
            clean = self._literal.sub(MASK, clean)
        clean = _URL.sub(rf"\1{MASK}@", clean)
        if _SUSPICIOUS.search(clean):
            clean = _HEADER.sub(lambda m: f"{m[1]}{m[2]}{m[3] or ''}{MASK}", clean)
            clean = _OPTION.sub(rf"\1{MASK}", clean)
            clean = _SPACED.sub(rf"\1{MASK}", clean)
        clean = _TOKENS.sub(MASK, clean)
        if len(line) > _LOOKED_AT:
            clean = clean[:-MAX_LINE]  # half a secret may stand there
        return clean if len(clean) <= MAX_LINE else clean[: MAX_LINE - 1] + "…"


def _spellings(secret: str) -> list[str]:
    """Return the secret and its lines, blanks around it removed."""
    parts = [secret.strip(), *(line.strip() for line in secret.splitlines())]
    return [part for part in parts if len(part) >= MIN_SECRET]
