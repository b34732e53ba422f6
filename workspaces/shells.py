"""The event loop's side of a shell: reads when there is something, writes from a thread.

A read waits for the socket, so an idle shell costs no thread; a write may block while the
program inside does not read, so each shell that is typed into has a thread for it. What asks
the engine or the database goes through a common pool. Not in charge of: the browser's side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from django.db import connections

from ds01portal.engine.base import TerminalSession
from ds01portal.exceptions import EngineError

T = TypeVar("T")

CHUNK = 65_536  # bytes read at once
OUTPUT_RATE = 8 * 1024**2  # bytes a second: a browser draws less than this
MAX_TYPED = 4 * 1024**2  # bytes that may wait for a program that does not read
EXIT_PATIENCE = 2.0  # seconds between the last byte and the engine knowing the exit code

_pool = ThreadPoolExecutor(16, "terminal")


class TooMuchInput(Exception):
    """More was typed than the program inside takes."""


def submit(function: Callable[[], T]) -> Future[T]:
    """Call in the common pool, which keeps no database connection."""

    def call() -> T:
        try:
            return function()
        finally:
            connections.close_all()

    return _pool.submit(call)


async def in_thread(function: Callable[[], T]) -> T:
    """Call in the common pool and wait. Being cancelled does not stop what has begun."""
    return await asyncio.shield(asyncio.wrap_future(submit(function)))


class Shell:
    """One shell, from before it is opened, so that nothing typed early is lost."""

    def __init__(self) -> None:
        self._opening: Future[TerminalSession] | None = None
        self._writer = ThreadPoolExecutor(1, "terminal-write")
        self._typed = bytearray()
        self._has_typed = asyncio.Event()
        self._size: tuple[int, int] | None = None
        self._has_size = asyncio.Event()

    def type(self, data: bytes) -> None:
        """Queue bytes for the shell. Raise TooMuchInput when it does not take them."""
        if len(self._typed) + len(data) > MAX_TYPED:
            raise TooMuchInput
        self._typed += data
        self._has_typed.set()

    def resize(self, *, columns: int, rows: int) -> None:
        """Note the size wanted; of several in a row the last counts."""
        self._size = (columns, rows)
        self._has_size.set()

    async def first_size(self, *, patience: float) -> tuple[int, int]:
        """Return the first size that comes, or 80 by 24 after `patience` seconds."""
        try:
            async with asyncio.timeout(patience):
                await self._has_size.wait()
        except TimeoutError:
            pass
        self._has_size.clear()
        return self._size or (80, 24)

    async def open(self, opener: Callable[[], TerminalSession]) -> TerminalSession:
        """Open the shell; raise what `opener` raises."""
        self._opening = submit(opener)
        return await asyncio.shield(asyncio.wrap_future(self._opening))

    async def close(self) -> None:
        """End the shell, also one that is being opened just now.

        Once begun it is carried through in its thread, even when the event loop ends.
        """
        opening, self._opening = self._opening, None
        self._writer.shutdown(wait=False)
        if opening is not None:
            await in_thread(lambda: _close(opening))

    async def pass_input(self, session: TerminalSession) -> None:
        """Write what is typed, until cancelled or the shell is gone."""
        loop = asyncio.get_running_loop()
        while True:
            await self._has_typed.wait()
            data = bytes(self._typed[:CHUNK])
            del self._typed[:CHUNK]
            if not self._typed:
                self._has_typed.clear()
            try:
                await loop.run_in_executor(self._writer, session.write, data)
            except EngineError:
                return  # the reading side sees the end

    async def pass_sizes(self, session: TerminalSession) -> None:
        """Set each size wanted, until cancelled. A size the engine refuses is no harm."""
        while True:
            await self._has_size.wait()
            self._has_size.clear()
            columns, rows = self._size or (80, 24)
            try:
                await in_thread(partial(session.resize, columns=columns, rows=rows))
            except EngineError:
                await asyncio.sleep(0.1)


def _close(opening: Future[TerminalSession]) -> None:
    try:
        session = opening.result()
    except Exception:  # noqa: BLE001 - told to who opened it
        return
    session.close()


async def read_output(session: TerminalSession) -> bytes:
    """Return what the shell wrote, b"" at its end. Bytes that come faster than drawn are paced."""
    await _readable(session.fileno())
    data = session.read(CHUNK)
    if len(data) > CHUNK // 8:
        await asyncio.sleep(len(data) / OUTPUT_RATE)
    return data


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(descriptor, wake)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


async def await_exit_code(session: TerminalSession) -> int | None:
    """Return the exit code of a shell that has ended; None when the engine cannot tell."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + EXIT_PATIENCE
    while loop.time() < deadline:
        try:
            code = await in_thread(session.exit_code)
        except EngineError:
            return None
        if code is not None:
            return code
        await asyncio.sleep(0.05)
    return None
