"""A build's log in the database: whole lines, masked, bounded; written by one worker.

What is longer than the policy allows loses its middle: the beginning says what was done, the
end why it failed. Not in charge of: how it looks (`catalog.streams`).
"""

from __future__ import annotations

import codecs
import time
from collections import deque
from collections.abc import Iterable

from django.db.models import F, Max, Sum
from django.utils import timezone

from catalog.models import Build, BuildOutput
from catalog.recipes.masking import Masker

__all__ = ["OutputWriter", "last_output", "read_output"]

FLUSH_SECONDS = 0.08  # the least time between two rows
PARTIAL_SECONDS = 2.0  # a line without an end is shown after that long
MAX_ROW = 16_384  # characters
MAX_PARTIAL = 8_192  # characters of a line that does not end
TAIL_LINES = 80
HEAD_SHARE = 0.25  # of the log that is kept from the beginning


class OutputWriter:
    """Takes bytes as they come; `tick` is to be called some ten times a second."""

    def __init__(self, build: Build, *, masker: Masker, limit: int) -> None:
        self._build = build
        self._masker = masker
        self._head_limit = int(limit * HEAD_SHARE)
        self._tail_limit = limit - self._head_limit
        # Rows go as a whole: one as large as the tail would leave nothing of it.
        self._max_row = min(MAX_ROW, self._tail_limit // 8)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._partial = ""
        self._partial_since = 0.0
        self._lines: list[str] = []
        self._last_flush = 0.0
        self._step = 0
        self._load()

    def _load(self) -> None:
        """Go on where an earlier attempt stopped."""
        rows = list(self._build.output.order_by("pk").values_list("pk", "bytes"))
        self._head = 0
        self._rows: deque[tuple[int, int]] = deque()
        for row in rows:
            if self._head + row[1] <= self._head_limit and not self._rows:
                self._head += row[1]
            else:
                self._rows.append(row)
        self._tail = sum(size for _pk, size in self._rows)
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)  # last lines of the step

    def begin_step(self, number: int) -> None:
        """Number what comes from now on; 0 is about the build itself."""
        self.flush()
        self._step = number
        self.tail.clear()

    def feed(self, data: bytes) -> None:
        """Take output of the step."""
        text = self._partial + self._decoder.decode(data)
        *lines, self._partial = text.split("\n")
        self._keep(lines)
        if len(self._partial) > MAX_PARTIAL:
            self._keep([self._partial])
            self._partial = ""
        if self._partial and not self._partial_since:
            self._partial_since = time.monotonic()
        self.tick()

    def say(self, *lines: str) -> None:
        """Add lines of the portal's own."""
        self._end_partial()
        self._keep(lines)
        self.flush()

    def _keep(self, lines: Iterable[str]) -> None:
        for line in lines:
            # A progress bar writes itself over and over: what stands in the end counts.
            masked = self._masker.mask(line.rstrip("\r").rpartition("\r")[2])
            self._lines.append(masked)
            self.tail.append(masked)
            self._partial_since = 0.0

    def _end_partial(self) -> None:
        rest = self._partial + self._decoder.decode(b"", final=True)
        self._decoder.reset()
        self._partial = ""
        if rest:
            self._keep([rest])

    def tick(self) -> None:
        """Store what waits, unless the last row is very young."""
        now = time.monotonic()
        if self._partial_since and now - self._partial_since > PARTIAL_SECONDS:
            self._end_partial()
        if self._lines and now - self._last_flush >= FLUSH_SECONDS:
            self._store()

    def flush(self) -> None:
        """Store everything now."""
        self._end_partial()
        if self._lines:
            self._store()

    def _store(self) -> None:
        lines, self._lines = self._lines, []
        self._last_flush = time.monotonic()
        piece: list[str] = []
        size = 0
        for line in lines:
            if piece and size + len(line) > self._max_row:
                self._insert("\n".join(piece))
                piece, size = [], 0
            piece.append(line)
            size += len(line) + 1
        self._insert("\n".join(piece))
        self._trim()

    def _insert(self, text: str) -> None:
        size = len(text.encode()) + 1
        row = BuildOutput.objects.create(
            build=self._build, step=self._step, at=timezone.now(), text=text, bytes=size
        )
        if self._head + size <= self._head_limit and not self._rows:
            self._head += size
        else:
            self._rows.append((row.pk, size))
            self._tail += size

    def _trim(self) -> None:
        gone: list[int] = []
        dropped = 0
        while self._tail > self._tail_limit and len(self._rows) > 1:
            pk, size = self._rows.popleft()
            gone.append(pk)
            dropped += size
            self._tail -= size
        if gone:
            BuildOutput.objects.filter(pk__in=gone).delete()
            Build.objects.filter(pk=self._build.pk).update(
                dropped_bytes=F("dropped_bytes") + dropped
            )

    def close(self) -> None:
        """Store the rest, and how much there is."""
        self.flush()
        kept = self._build.output.aggregate(total=Sum("bytes"))["total"] or 0
        Build.objects.filter(pk=self._build.pk).update(log_bytes=kept)


def read_output(*, build: Build, after: int = 0, limit: int = 500) -> list[BuildOutput]:
    """Return up to `limit` pieces of the log that come after the piece with that id."""
    return list(build.output.filter(pk__gt=after).order_by("pk")[:limit])


def last_output(*, build: Build) -> int:
    """Return the id of the last piece, 0 without one."""
    return build.output.aggregate(last=Max("pk"))["last"] or 0
