"""What a catalogue file says, whichever its format: entries, and lines that are no use. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from catalog.frameworks import normalise_framework

Key = tuple[str, str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class CatalogEntry:
    """One row of the catalogue. `architectures` is sorted and never empty; `line` starts at 1."""

    framework: str
    version: str
    architectures: tuple[str, ...]
    reference: str
    line: int = 0

    @property
    def key(self) -> Key:
        """Return what makes a row the same row in two files."""
        return normalise_framework(self.framework), self.version.lower(), self.architectures


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A line that could not be used, and why. `line` starts at 1; 0 means the whole file."""

    line: int
    reason: str
    text: str = ""

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}" if self.line else self.reason


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedCatalog:
    """Every line of a file is in exactly one of entries, problems, blank, comments.

    `cut_off` means that the last line is unusable and has no line end: the file was probably
    truncated, so what it does not name may still exist.
    """

    entries: tuple[CatalogEntry, ...]
    problems: tuple[Problem, ...] = ()
    blank: int = 0
    comments: int = 0
    cut_off: bool = False


@dataclass(slots=True)
class SeenRows:
    """Remember which framework, version and architecture a file named on which line."""

    lines: dict[tuple[str, str, str], int] = field(default_factory=dict)

    def find_duplicate(self, entry: CatalogEntry) -> tuple[str, int] | None:
        """Return the architecture named before and its line, or None and remember the entry."""
        framework, version, architectures = entry.key
        for architecture in architectures:
            line = self.lines.get((framework, version, architecture))
            if line is not None:
                return architecture, line
        for architecture in architectures:
            self.lines[framework, version, architecture] = entry.line
        return None
