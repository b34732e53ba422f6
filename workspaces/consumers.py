"""The web terminal: one WebSocket, one shell, as `terminal.js` expects it.

Binary frames are bytes both ways; text frames are JSON. Close codes from 4000 on are final, 1012
means: come back, the server is being restarted. Not in charge of: who may open a shell and as
whom it runs (`services.terminals`), how bytes get in and out of it (`shells`).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

from channels.auth import get_user
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.db import Error

from ds01portal.engine.base import TerminalSession
from ds01portal.exceptions import (
    EngineError,
    IllegalTransition,
    NotFound,
    PortalError,
    QuotaExceeded,
)
from ds01portal.lifespan import on_stop
from ds01portal.models import Person
from workspaces.models import Container
from workspaces.services import terminals
from workspaces.shells import Shell, TooMuchInput, await_exit_code, in_thread, read_output

logger = logging.getLogger(__name__)

FIRST_SIZE = 2.0  # seconds to wait for the size that comes right after the socket opens
# Seconds between looks whether the person may still; also keeps proxies from cutting silence.
CHECK_EVERY = 30.0
STOP_PATIENCE = 1.0  # seconds from a killed shell to an engine that says the container stopped
KILLED = 137  # 128 and SIGKILL

SERVER_RESTARTS = 1012
BAD_FRAME, SIGN_IN, REFUSED, UNKNOWN, NOT_RUNNING = 4400, 4401, 4403, 4404, 4409
TOO_MUCH, TOO_MANY, ENGINE_TROUBLE = 4413, 4429, 4503
CODES: tuple[tuple[type[PortalError], int], ...] = (
    (NotFound, UNKNOWN),
    (IllegalTransition, NOT_RUNNING),
    (QuotaExceeded, TOO_MANY),
    (EngineError, ENGINE_TROUBLE),
)


@dataclass(frozen=True, slots=True)
class End:
    """How a terminal ends: the close code, and the last text frame, if any."""

    code: int
    frame: dict[str, Any] | None = None


def refusal(code: int, message: str) -> End:
    """Return an end that the person reads as an error."""
    return End(code, {"type": "error", "message": message})


def end_of(error: PortalError) -> End:
    """Return the end for an error of the portal, shown word for word."""
    code = next((code for kind, code in CODES if isinstance(error, kind)), REFUSED)
    return refusal(code, " ".join(filter(None, (str(error.message), str(error.hint)))))


class TerminalConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """A person's shell in a container. Whatever way it ends, the shell inside ends too."""

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        self._shell = Shell()
        self._ending: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self._serving: asyncio.Task[None] | None = None
        forget = on_stop(lambda: self._end(End(SERVER_RESTARTS)))
        try:
            await super().__call__(scope, receive, send)
        finally:
            forget()
            await self._stop_serving()

    async def dispatch(self, message: dict[str, Any]) -> None:
        """Handle a frame without a look at database connections: there is one for every key."""
        await getattr(self, message["type"].replace(".", "_"))(message)

    async def connect(self) -> None:
        """Accept at once: only then can a refusal be read by the person."""
        await self.accept()
        self._serving = asyncio.create_task(self._serve())

    async def disconnect(self, code: int) -> None:
        """End the shell of a browser that is gone."""
        await self._stop_serving()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Take what is typed and the window's size. Never waits: a hang-up comes this way too."""
        try:
            if bytes_data is not None:
                self._shell.type(bytes_data)
            elif text_data is not None:
                self._take_message(json.loads(text_data))
        except TooMuchInput:
            self._end(refusal(TOO_MUCH, "The program in the terminal does not read so much input."))
        except (ValueError, TypeError, KeyError, AttributeError):
            self._end(refusal(BAD_FRAME, "The terminal was sent something it does not know."))

    def _take_message(self, message: dict[str, Any]) -> None:
        if message["type"] == "resize":
            self._shell.resize(columns=int(message["cols"]), rows=int(message["rows"]))

    # ---- One terminal ------------------------------------------------------------------------

    async def _serve(self) -> None:
        try:
            end = await self._run()
        except PortalError as error:
            end = end_of(error)
            if isinstance(error, EngineError):
                logger.warning("terminal: %s %s", error.message, error.cause)
        except Exception:
            logger.exception("a terminal failed")
            end = refusal(ENGINE_TROUBLE, "The portal made a mistake. Open the terminal again.")
        with suppress(OSError, RuntimeError):  # the browser is gone already
            if end.frame is not None:
                await self._tell(end.frame)
            await self.close(end.code)

    async def _run(self) -> End:
        person = self.scope["user"]
        if not person.is_authenticated:
            return refusal(SIGN_IN, "Sign in again to use the terminal.")
        pk = self.scope["url_route"]["kwargs"]["pk"]
        with terminals.terminal_seat(person=person):
            container = await in_thread(
                lambda: terminals.find_for_terminal(person=person, container_id=pk)
            )
            columns, rows = await self._shell.first_size(patience=FIRST_SIZE)
            try:
                session = await self._shell.open(
                    lambda: terminals.open_terminal(
                        container=container, actor=person, columns=columns, rows=rows
                    )
                )
                await self._tell({"type": "ready"})
                return await self._converse(session, container)
            finally:
                await self._shell.close()

    async def _converse(self, session: TerminalSession, container: Container) -> End:
        """Pass bytes both ways until one side, or somebody else, ends it."""
        duties: list[Coroutine[Any, Any, Any]] = [
            self._shell.pass_input(session),
            self._shell.pass_sizes(session),
            self._keep_checking(container),
            self._pass_output(session, container),
        ]
        tasks = [asyncio.create_task(duty) for duty in duties]
        try:
            for task in tasks[2:]:
                task.add_done_callback(self._take_over)
            return await self._ending
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _take_over(self, task: asyncio.Task[End]) -> None:
        """Make the result or the mistake of a duty the terminal's end."""
        if task.cancelled() or self._ending.done():
            return
        if error := task.exception():
            self._ending.set_exception(error)
        else:
            self._ending.set_result(task.result())

    async def _pass_output(self, session: TerminalSession, container: Container) -> End:
        # A browser that does not read makes `send` wait, and so the program inside.
        while data := await read_output(session):
            await self.send(bytes_data=data)
        code = await await_exit_code(session)
        reason = await in_thread(partial(terminals.explain_end, container=container))
        if not reason and code in (None, KILLED):
            # A container's processes end before the engine says that it has stopped.
            await asyncio.sleep(STOP_PATIENCE)
            reason = await in_thread(partial(terminals.explain_end, container=container))
        return End(1000, {"type": "exit", "code": code, "reason": reason})

    async def _keep_checking(self, container: Container) -> End:
        while True:
            await asyncio.sleep(getattr(settings, "DS01_TERMINAL_CHECK", CHECK_EVERY))
            await self._tell({"type": "ping"})
            try:
                end = await self._check(container)
            except Error:
                logger.exception("a terminal's permission cannot be checked")
                continue
            if end is not None:
                return end

    async def _check(self, container: Container) -> End | None:
        """Return an end when the person signed out, or lost the container."""
        store = import_module(settings.SESSION_ENGINE).SessionStore
        person = await get_user({"session": store(self.scope["session"].session_key)})
        if not isinstance(person, Person):
            return refusal(SIGN_IN, "You signed out, so the terminal was closed.")
        if await in_thread(
            lambda: terminals.may_keep_terminal(person=person, container_id=container.pk)
        ):
            return None
        return refusal(UNKNOWN, f"{container.name} is not yours any more, or was removed.")

    # ---- Ends ----------------------------------------------------------------------------------

    def _end(self, end: End) -> None:
        if not self._ending.done():
            self._ending.set_result(end)

    async def _stop_serving(self) -> None:
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    async def _tell(self, frame: dict[str, Any]) -> None:
        await self.send(text_data=json.dumps(frame))
