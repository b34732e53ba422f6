"""What the SDK and the line to the engine can throw, as errors of the portal.

The one rule: only the engine's own word that an object does not exist is evidence. A 404
about something else, a 500, a cut connection or silence never becomes `MissingOnEngine`.
Not in charge of: what a caller does next.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException

import requests
import urllib3.exceptions
from docker.errors import APIError, DockerException

from ds01portal.exceptions import (
    DeviceDriverMissing,
    EngineConflict,
    EngineError,
    EngineTimeout,
    EngineUnreachable,
    MissingOnEngine,
    OutOfMemory,
    PortalError,
    RlimitRefused,
)

NO_CONTAINER = "no such container"
NO_IMAGE = "no such image"
NO_NETWORK = "no such network"
NO_EXEC = "no such exec"

# Engine texts of a failed start → error, message, hint. Seen on 20.10 to 28.
_KNOWN: tuple[tuple[tuple[str, ...], type[EngineError], str, str], ...] = (
    (
        ("could not select device driver", "unresolvable cdi devices"),
        DeviceDriverMissing,
        "Docker on this machine cannot hand out GPUs.",
        "An administrator has to install the NVIDIA container toolkit and restart Docker.",
    ),
    (
        ("error setting rlimit",),
        RlimitRefused,
        "This machine does not allow the container's limits (memlock or stack).",
        "An administrator can launch without that limit or raise it for Docker.",
    ),
    (
        ("cannot allocate memory", "out of memory"),
        OutOfMemory,
        "The machine has not enough memory left.",
        "Try again with less memory or later.",
    ),
    (
        ("no space left on device",),
        EngineError,
        "The machine's disk is full.",
        "Tell an administrator.",
    ),
)


@contextmanager
def engine_errors(doing: str, *, missing: str = NO_CONTAINER) -> Iterator[None]:
    """Map whatever goes wrong inside to the EngineError family.

    `doing` completes "Docker could not …"; `missing` is what the engine says, in lower case,
    when the object asked for does not exist.
    """
    try:
        yield
    except PortalError:
        raise
    except Exception as error:
        mapped = map_error(error, doing=doing, missing=missing)
        if mapped is None:  # a mistake of ours, not trouble of the engine's
            raise
        raise mapped from error


def map_error(
    error: BaseException, *, doing: str, missing: str = NO_CONTAINER
) -> EngineError | None:
    """Return the portal's error for one of the SDK or the line, None for anything else."""
    # The SDK wraps what happens while it finds out the engine's version in a bare exception.
    for cause in _chain(error):
        if isinstance(cause, APIError):
            text = str(cause.explanation or cause)
            return from_status(cause.status_code or 500, text, doing=doing, missing=missing)
        if isinstance(cause, requests.ConnectTimeout):
            return unreachable(cause)
        if isinstance(cause, TimeoutError | requests.Timeout | urllib3.exceptions.TimeoutError):
            return EngineTimeout(
                f"Docker did not answer in time when asked to {doing}.",
                hint="Whether it was done is not known yet; look again in a minute.",
                cause=repr(cause),
            )
    for cause in _chain(error):
        if isinstance(cause, requests.JSONDecodeError | requests.exceptions.InvalidJSONError):
            return EngineError(f"Docker could not {doing}.", cause=f"not Docker's: {cause!r}")
        # requests' own errors are OSErrors.
        if isinstance(cause, OSError | urllib3.exceptions.HTTPError | HTTPException):
            return unreachable(cause)
    if isinstance(error, DockerException):
        return EngineError(f"Docker could not {doing}.", cause=str(error))
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    queue: list[BaseException | object | None] = [error]
    while queue:
        one = queue.pop(0)
        if not isinstance(one, BaseException) or one in seen:
            continue
        seen.append(one)
        yield one
        # requests and urllib3 keep the error below as an argument or a reason.
        queue += [one.__cause__, getattr(one, "reason", None), *one.args]


def unreachable(error: BaseException) -> EngineUnreachable:
    """Return the error for an engine that gives no answer."""
    causes = list(_chain(error))
    denied = any(isinstance(cause, PermissionError) for cause in causes)
    hint = (
        "The portal may not open Docker's socket: an administrator has to allow it."
        if denied
        else "Containers may be running all the same. Try again in a minute."
    )
    return EngineUnreachable("Docker does not answer.", hint=hint, cause=repr(error))


def from_status(status: int, text: str, *, doing: str, missing: str = NO_CONTAINER) -> EngineError:
    """Return the error for an HTTP status and the engine's explanation."""
    lowered = text.lower()
    if status == 404 and missing in lowered:
        what = missing.removeprefix("no such ")
        return MissingOnEngine(f"Docker has no such {what}.", cause=text)
    for marks, kind, message, hint in _KNOWN:
        if any(mark in lowered for mark in marks):
            return kind(message, hint=hint, cause=text)
    if status == 409:
        return EngineConflict(f"Docker could not {doing}: it is taken or in use.", cause=text)
    return EngineError(f"Docker could not {doing}.", cause=f"{status}: {text}")
