"""Two families of errors, shared by page, command and worker.

::

    PortalError
    ├── RefusedError            the request cannot be granted; shown word for word
    │   ├── InvalidInput        a value is malformed (user's turn)
    │   ├── NotFound            no such thing, or not visible to who asks
    │   ├── QuotaExceeded       a limit of the owner; carries limit, used, requested
    │   ├── NoFreeDevice        the machine is full; carries free and requested
    │   ├── IllegalTransition   the container's state does not allow the verb
    │   ├── Busy                another operation on the same thing is under way
    │   ├── ImageRefused        unknown, retired, incompatible or invisible image
    │   ├── ImageInUse          containers or other images stand on it; carries which
    │   ├── PolicyRefused       a recipe asks for what the build policy does not allow
    │   ├── BuildFailed         a step of a recipe failed; carries the step and its exit code
    │   └── FolderRefused       a mount outside of what an admin allowed
    └── EngineError             Docker Engine or the host failed; a plain line for the user
        ├── EngineUnreachable   no answer: says nothing about any container
        ├── EngineTimeout       no answer in time: outcome unknown
        ├── ImagePullFailed     registry or network trouble, or no such image
        ├── EngineConflict      a name or address is taken on the engine
        ├── MissingOnEngine     the object does not exist (evidence, not trouble)
        ├── DeviceDriverMissing the engine cannot hand out GPUs
        ├── RlimitRefused       the engine's host may not raise a limit (nested machines)
        └── OutOfMemory         the host or the container ran out of memory

`code` is stable and machine readable, `fields` are JSON-safe numbers and names, `hint`
says what to do next. Not in charge of: logging, translation of technical causes.
"""

from __future__ import annotations

from typing import Any


class PortalError(Exception):
    """Base of all errors of the portal. Do not raise directly."""

    code = "error"
    family = "engine"  # user | quota | image | engine | timeout | out_of_memory

    def __init__(self, message: str, *, hint: str = "", cause: str = "", **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.cause = cause
        self.fields = fields

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form used by commands, pages and rows."""
        return {
            "code": self.code,
            "family": self.family,
            "message": str(self.message),
            "hint": str(self.hint),
            "fields": self.fields,
        }


class RefusedError(PortalError):
    """The request is understood and not granted. Nothing was changed."""

    code = "refused"
    family = "user"


class InvalidInput(RefusedError):
    """A value is malformed; `fields["field"]` names it."""

    code = "invalid-input"


class NotFound(RefusedError):
    """There is no such thing, or who asks may not know of it."""

    code = "not-found"


class QuotaExceeded(RefusedError):
    """A limit of the owner would be exceeded; fields: limit, used, requested, resource."""

    code = "quota-exceeded"
    family = "quota"


class NoFreeDevice(RefusedError):
    """The machine has not enough free devices now; fields: free, requested."""

    code = "no-free-device"
    family = "quota"


class IllegalTransition(RefusedError):
    """The state of the container does not allow the verb; fields: state, verb."""

    code = "illegal-transition"


class Busy(RefusedError):
    """Another operation on the same object is under way; fields: operation."""

    code = "busy"


class ImageRefused(RefusedError):
    """The image cannot be launched by this person on this machine."""

    code = "image-refused"
    family = "image"


class ImageInUse(RefusedError):
    """Containers or recipes stand on the image; fields: containers, recipes (names)."""

    code = "image-in-use"
    family = "image"


class PolicyRefused(RefusedError):
    """A recipe asks for what the build policy does not allow; fields: field, value."""

    code = "policy-refused"


class BuildFailed(RefusedError):
    """A step of a recipe failed; `code` says how; fields: step, title, exit_code."""

    code = "build-failed"
    family = "image"


class FolderRefused(RefusedError):
    """A folder is outside of what an admin allowed, or is not what it seems."""

    code = "folder-refused"


class EngineError(PortalError):
    """Docker Engine or the host failed. `cause` has the technical text for the log."""

    code = "engine-error"
    family = "engine"


class EngineUnreachable(EngineError):
    """The engine does not answer. Says nothing about any container."""

    code = "engine-unreachable"


class EngineTimeout(EngineError):
    """The engine did not answer in time; whether it acted is unknown."""

    code = "engine-timeout"
    family = "timeout"


class ImagePullFailed(EngineError):
    """The image could not be pulled."""

    code = "image-pull-failed"
    family = "image"


class EngineConflict(EngineError):
    """A name or an address is taken on the engine."""

    code = "engine-conflict"


class MissingOnEngine(EngineError):
    """The object does not exist on the engine. This is evidence, not trouble."""

    code = "missing-on-engine"


class DeviceDriverMissing(EngineError):
    """The engine has no driver for the devices asked for: the container cannot start."""

    code = "device-driver-missing"


class RlimitRefused(EngineError):
    """The engine's host may not raise a resource limit such as memlock to what was asked."""

    code = "rlimit-refused"


class OutOfMemory(EngineError):
    """The host or the container ran out of memory."""

    code = "out-of-memory"
    family = "out_of_memory"
