"""How far a build is, in plain values for page and stream.

Not in charge of: the log, or why a build failed.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _

from catalog.models import Build
from catalog.services.builds import queue_position

# State of a step as the worker writes it → (kind for the colour, word).
PILLS = {
    Build.State.QUEUED: "queued",
    Build.State.RUNNING: "busy",
    Build.State.DONE: "ready",
    Build.State.FAILED: "failed",
    Build.State.CANCELLED: "cancelled",
}


def step_words() -> dict[str, str]:
    """Return the words for the states of a step."""
    return {
        "waiting": _("to do"),
        "running": _("going on"),
        "done": _("done"),
        "cached": _("from an earlier build"),
        "failed": _("failed"),
        "cancelled": _("cancelled"),
    }


def describe_progress(*, build: Build) -> dict[str, Any]:
    """Return state, steps and times; JSON-safe, equal while nothing moved."""
    operation = build.operation
    cancelling = bool(build.is_live and operation and operation.cancel_requested)
    label = _("Cancelling") if cancelling else str(build.get_state_display())
    return {
        "state": str(build.state),
        "label": label,
        "pill": PILLS.get(Build.State(build.state), "queued"),
        "live": build.is_live,
        "cancelling": cancelling,
        "position": queue_position(build=build) if build.state == Build.State.QUEUED else 0,
        "message": operation.message if operation and build.is_live else "",
        "started_at": _iso(build.started_at),
        "finished_at": _iso(build.finished_at),
        "seconds": elapsed_seconds(build),
        "steps": describe_steps(build),
    }


def describe_steps(build: Build) -> list[dict[str, Any]]:
    """Return the steps with their number, state, word and time."""
    words = step_words()
    steps = []
    for number, step in enumerate(build.steps, start=1):
        state = str(step.get("state", "waiting"))
        if state in ("running", "waiting") and not build.is_live:
            state = "failed" if _is_failed(build, number) else "waiting"
        steps.append(
            {
                "number": number,
                "title": str(step.get("title", "")),
                "state": state,
                "word": words.get(state, state),
                "seconds": step.get("seconds"),
                "started_at": step.get("started_at") if state == "running" else None,
            }
        )
    return steps


def elapsed_seconds(build: Build) -> float | None:
    """Return how long it took, None before its end."""
    if build.started_at is None or build.finished_at is None:
        return None
    return round((build.finished_at - build.started_at).total_seconds(), 1)


def running_step(steps: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the step that goes on, None between steps."""
    return next((step for step in steps if step["state"] == "running"), None)


def _is_failed(build: Build, number: int) -> bool:
    fields = build.error.get("fields") or {}
    return bool(build.state == Build.State.FAILED and fields.get("step") == number)


def _iso(moment: dt.datetime | None) -> str | None:
    return timezone.localtime(moment).isoformat() if moment else None
