"""Docker's own reading of a Dockerfile, written anew for tests from BuildKit's parser.

Sources: `frontend/dockerfile/parser` (lines, continuations, comments, directives, heredocs) and
`frontend/dockerfile/shell/lex.go` (words of ENV and LABEL). It shares no code with what it tests.
"""

from __future__ import annotations

import re

MAX_LINE = 65_535  # bytes; the scanner's limit


def read_directives(text: str) -> dict[str, str]:
    """Return the parser directives: `# key=value` lines before anything else."""
    found = {}
    for line in text.split("\n"):
        match = re.match(r"^#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$", line)
        if not match:
            return found
        found[match[1].lower()] = match[2]
    return found


def read_instructions(text: str) -> list[tuple[str, str]]:
    """Return instruction and argument of every logical line; raise for a heredoc."""
    instructions = []
    rows = iter(text.split("\n"))
    for row in rows:
        assert len(row.encode("utf-8", "surrogatepass")) < MAX_LINE
        if re.match(r"^\s*#", row) or not row.strip():
            continue
        logical, goes_on = _cut_continuation(row.lstrip())
        while goes_on:
            following = next(rows, None)
            if following is None:
                break
            if re.match(r"^\s*#", following) or not following.strip():
                continue
            part, goes_on = _cut_continuation(following)
            logical += part
        word, _, rest = logical.partition(" ")
        if word.upper() == "RUN":
            assert not has_heredoc(rest)
            assert not rest.lstrip().startswith(("[", "--"))
        instructions.append((word, rest.strip()))
    return instructions


def _cut_continuation(row: str) -> tuple[str, bool]:
    # Older parsers continue at any final backslash, newer ones not at two: neither may matter.
    match = re.search(r"\\[ \t]*$", row)
    return (row[: match.start()], True) if match else (row, False)


def split_words(text: str) -> list[str]:
    """Split at blanks outside of quotes; quotes and backslashes stay."""
    words, word, quote, at = [], "", "", 0
    while at < len(text):
        character = text[at]
        if character == "\\" and quote != "'" and at + 1 < len(text):
            word += text[at : at + 2]
            at += 2
            continue
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in " \t":
            if word:
                words.append(word)
            word, at = "", at + 1
            continue
        word += character
        at += 1
    assert not quote, "a quote is not closed"
    return [*words, word] if word else words


def has_heredoc(command: str) -> bool:
    """Say whether BuildKit would take a word of a RUN line for the start of a heredoc."""
    return any(re.match(r"^(\d*)<<(-?)([^<]*)$", word) for word in split_words(command))


def read_pair(argument: str) -> tuple[str, str]:
    """Return name and expanded value of an `ENV name=value` or `LABEL name=value`."""
    words = split_words(argument)
    assert len(words) == 1, words
    name, equals, value = words[0].partition("=")
    assert equals
    return name, expand(value)


def expand(word: str) -> str:
    """Return the word as Docker expands it; every variable is empty."""
    result, at = "", 0
    while at < len(word):
        character = word[at]
        if character == "'":
            end = word.index("'", at + 1)
            result, at = result + word[at + 1 : end], end + 1
        elif character == '"':
            part, at = _expand_quoted(word, at + 1)
            result += part
        elif character == "\\":
            result, at = result + word[at + 1 : at + 2], at + 2
        elif character == "$":
            at = _skip_variable(word, at)
        else:
            result, at = result + character, at + 1
    return result


def _expand_quoted(word: str, at: int) -> tuple[str, int]:
    result = ""
    while word[at] != '"':
        character, following = word[at], word[at + 1]
        if character == "\\":
            result += following if following in '"$\\' else character + following
            at += 2
        elif character == "$":
            at = _skip_variable(word, at)
        else:
            result, at = result + character, at + 1
    return result, at + 1


def _skip_variable(word: str, at: int) -> int:
    match = re.match(r"\$(\{[^}]*\}|[A-Za-z0-9_@*#]*)", word[at:])
    return at + (match.end() if match else 1)
