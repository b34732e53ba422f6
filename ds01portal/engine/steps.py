"""A step of an image build in the engine's JSON, and what goes in and out of it: pure.

`step_config` and `commit_config` are allow-lists, as `wire.container_config` is. Variables
travel over standard input, because the engine keeps whatever a container is made with, and a
commit hands it on to everybody who has the image. Not in charge of: which steps a build has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from . import wire
from .base import ImageConfig, StepSpec

# Reads NAME=value lines until an empty one and becomes the command. Without that last line
# (the connection broke) nothing runs. Both streams are one, so that their order is kept.
PRELUDE = (
    'while IFS= read -r ds01_line; do if [ -z "$ds01_line" ]; then unset ds01_line; '
    'exec </dev/null 2>&1; exec "$@"; fi; export "$ds01_line"; done; exit 125'
)
# What package managers need to set owners and modes, to drop to a user of their own and to end
# their helpers: a part of what the engine gives by default, without devices and raw sockets.
CAPABILITIES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETFCAP",
    "SETGID",
    "SETUID",
)
RUNTIME = "runc"
NO_DEVICES = {"NVIDIA_VISIBLE_DEVICES": "void"}
MAX_COMMAND = 131_071  # bytes of one argument that Linux takes
HEAD_SIZE = 8  # bytes before each piece of output: the stream, three zeros, the size
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def step_config(spec: StepSpec) -> dict[str, Any]:
    """Return the body of a create request. Raise ValueError for a command that is too long."""
    if len(spec.command.encode()) > MAX_COMMAND:
        raise ValueError(f"the command of a build step is longer than {MAX_COMMAND} bytes")
    return {
        "Image": spec.image,
        "User": spec.user,
        "Entrypoint": ["/bin/sh", "-c", PRELUDE, "ds01"],
        "Cmd": ["/bin/sh", "-c", spec.command],
        # The base's check is about a main process that does not run here.
        "Healthcheck": {"Test": ["NONE"]},
        "WorkingDir": spec.working_dir,
        "Labels": dict(spec.labels),
        "Tty": False,
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": _host_config(spec),
    }


def _host_config(spec: StepSpec) -> dict[str, Any]:
    return {
        **wire.closed_host_config(spec),
        "CapAdd": list(CAPABILITIES),
        # Where NVIDIA's runtime is the default, an image that asks for all GPUs would get them.
        "Runtime": RUNTIME,
        "NetworkMode": spec.network or "default",
        "Init": False,
        # The output is read as it comes; a copy of the engine's could hold a secret.
        "LogConfig": {"Type": "none", "Config": {}},
    }


def commit_config(config: ImageConfig) -> dict[str, Any]:
    """Return the body of a commit request. Raise ValueError for an empty command.

    The engine fills empty fields with the step's and merges variables and labels.
    """
    if not config.command:
        raise ValueError("an image without a command would keep the step's")
    return {
        "Env": [f"{name}={value}" for name, value in config.environment.items()],
        "Labels": dict(config.labels),
        "WorkingDir": config.working_dir,
        "User": config.user,
        "Cmd": list(config.command),
        "Entrypoint": [],
    }


def environment_lines(environment: Mapping[str, str]) -> bytes:
    """Return what the prelude reads. Raise ValueError for what a line or a shell cannot carry.

    A step sees no GPU, unless `environment` says otherwise to programs that ask.
    """
    lines = []
    for name, value in {**NO_DEVICES, **environment}.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of a variable")
        if "\n" in value or "\0" in value:
            raise ValueError(f"the value of {name} has a line break or a NUL in it")
        lines.append(f"{name}={value}\n")
    return "".join([*lines, "\n"]).encode()


def is_leftover(labels: Mapping[str, str], spec: StepSpec) -> bool:
    """Return whether a container with these labels is an earlier attempt at the step.

    A step without labels has none: nothing tells its container from somebody else's.
    """
    return bool(spec.labels) and spec.labels.items() <= labels.items()


class Frames:
    """Takes the engine's heads out of a stream of output, however it is cut."""

    def __init__(self) -> None:
        self._head = b""
        self._left = 0  # bytes of the present frame still to come

    def feed(self, data: bytes) -> bytes:
        """Return the output in `data`; a frame's part at once, before the rest of it comes."""
        output = []
        while data:
            if self._left:
                piece, data = data[: self._left], data[self._left :]
                self._left -= len(piece)
                output.append(piece)
            else:
                missing = HEAD_SIZE - len(self._head)
                self._head, data = self._head + data[:missing], data[missing:]
                if len(self._head) == HEAD_SIZE:
                    self._left, self._head = int.from_bytes(self._head[4:], "big"), b""
        return b"".join(output)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing of the last frame."""
        return not self._left and not self._head
