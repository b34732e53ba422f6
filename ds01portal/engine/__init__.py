"""The one way to get at the engine that the settings name.

Not in charge of: what an engine can do (`base`), or when it is asked (the services).
"""

from __future__ import annotations

import os
import threading

from django.conf import settings
from django.utils.module_loading import import_string

from .base import ContainerEngine

DEFAULT_ENGINE = "ds01portal.engine.dockerd.DockerEngine"
DEFAULT_HOST = "unix:///var/run/docker.sock"
DEFAULT_TIMEOUT = 60  # seconds

__all__ = ["ContainerEngine", "get_engine", "reset_engine", "set_engine"]

_lock = threading.Lock()
# By process id: a forked server process must not share its parent's connections.
_engines: dict[int, ContainerEngine] = {}


def get_engine() -> ContainerEngine:
    """Return this process's engine, made on first use from the settings.

    `DS01_ENGINE` is a dotted class path, `DOCKER_HOST` its address and `DS01_ENGINE_TIMEOUT`
    the seconds to wait for an answer. Making it talks to nobody.
    """
    with _lock:
        engine = _engines.get(os.getpid())
        if engine is None:
            engine = _engines[os.getpid()] = _make_engine()
        return engine


def set_engine(engine: ContainerEngine) -> None:
    """Use `engine` in this process from now on. For tests and demonstrations."""
    with _lock:
        _engines[os.getpid()] = engine


def reset_engine() -> None:
    """Forget this process's engine, so that the next use reads the settings again."""
    with _lock:
        engine = _engines.pop(os.getpid(), None)
    if engine is not None:
        engine.close()


def _make_engine() -> ContainerEngine:
    made = import_string(getattr(settings, "DS01_ENGINE", "") or DEFAULT_ENGINE)(
        base_url=getattr(settings, "DOCKER_HOST", "") or DEFAULT_HOST,
        timeout=getattr(settings, "DS01_ENGINE_TIMEOUT", DEFAULT_TIMEOUT),
    )
    if not isinstance(made, ContainerEngine):
        raise TypeError(f"DS01_ENGINE is {type(made)}, which is not a ContainerEngine")
    return made
