"""System checks of the catalogue: engine versions that let people out of their containers."""

from __future__ import annotations

from typing import Any

from django.core import checks
from django.core.checks import CheckMessage, register
from django.db import DatabaseError

from catalog.services.engine_facts import find_unknown_components, known_escapes


def check_known_escapes(**_kwargs: Any) -> list[CheckMessage]:
    """Warn about versions with a known way out of containers; say which are not known.

    Builds run what untrusted people wrote, so these count more than they do for launches.
    """
    try:
        escapes, unknown = known_escapes(), find_unknown_components()
    except DatabaseError:
        return []  # another check tells that
    found: list[CheckMessage] = [
        checks.Warning(
            escape.message,
            hint=f"Upgrade {escape.component} on the engine's host to {escape.fixed_in} or later "
            "of its line, and restart Docker Engine.",
            id="catalog.W001",
        )
        for escape in escapes
    ]
    found += [
        checks.Info(
            f"The version of {component} is not known, so nothing can be said about it.",
            hint="Look at it on the engine's host, and compare it with its advisories.",
            id="catalog.I001",
        )
        for component in unknown
    ]
    return found


def register_checks() -> None:
    """Register the checks of this module; they read rows, so only `check --deploy` runs them."""
    register(check_known_escapes, deploy=True)
