"""A pull's many layers turned into one figure, and its failures into plain words.

Pure: fed with the engine's messages, it knows no network. Not in charge of: how often
progress is reported, or when a pull is given up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ds01portal.exceptions import ImagePullFailed

from .base import PullProgress

# Measured shares vary with disk and network; what counts is that both phases move the figure.
DOWNLOAD_WEIGHT = 0.7
EXTRACT_WEIGHT = 0.3

_WAITING = {"Pulling fs layer", "Waiting"}
_DOWNLOADED = {"Verifying Checksum", "Download complete"}


@dataclass(slots=True)
class _Layer:
    size: int | None = None
    downloaded: float = 0.0  # share of the layer, 0 to 1
    extracted: float = 0.0

    def share(self) -> float:
        return DOWNLOAD_WEIGHT * self.downloaded + EXTRACT_WEIGHT * self.extracted


@dataclass(slots=True)
class PullMeter:
    """Layers seen so far. `read()` never goes back.

    A layer starts to download, and tells its size, only when one of the few slots is free:
    until then it counts with the mean size of those that are known, so that the figure moves
    from the first byte on. While no size at all is known, the percentage is None.
    """

    _layers: dict[str, _Layer] = field(default_factory=dict)
    _highest: float | None = None

    def feed(self, message: Mapping[str, Any]) -> None:
        """Take one message of the engine's pull stream; what is not about a layer is ignored."""
        name, status = message.get("id"), str(message.get("status") or "")
        if not name:
            return
        if status in _WAITING:
            self._layers.setdefault(name, _Layer())
            return
        layer = self._layers.get(name)
        detail = message.get("progressDetail") or {}
        if layer is None and status == "Downloading":
            layer = self._layers[name] = _Layer()
        if layer is None:  # already there, or not a layer ("Pulling from …" has the tag as id)
            return
        if status == "Already exists":
            del self._layers[name]
        else:
            self._advance(layer, status, detail.get("current") or 0, detail.get("total") or 0)

    @staticmethod
    def _advance(layer: _Layer, status: str, current: int, total: int) -> None:
        if status == "Downloading" and total > 0:
            layer.size = total
            layer.downloaded = max(layer.downloaded, min(1.0, current / total))
        elif status in _DOWNLOADED:
            layer.downloaded = 1.0
        elif status == "Extracting":
            layer.downloaded = 1.0
            # Extracted bytes come with a total; newer stores count seconds, without one.
            if total > 0:
                layer.size = layer.size or total
                layer.extracted = max(layer.extracted, min(1.0, current / total))
        elif status == "Pull complete":
            layer.downloaded = layer.extracted = 1.0

    def read(self) -> PullProgress:
        """Return the figure as of now."""
        layers = list(self._layers.values())
        known = [layer for layer in layers if layer.size]
        done = sum(int((layer.size or 0) * layer.downloaded) for layer in known)
        complete = sum(1 for layer in layers if layer.extracted >= 1.0)
        if known:
            mean = sum(layer.size or 0 for layer in known) / len(known)
            total = sum(layer.size or mean for layer in layers)
            now = 100.0 * sum((layer.size or mean) * layer.share() for layer in layers) / total
            self._highest = max(self._highest or 0.0, min(now, 100.0))
        return PullProgress(
            percent=None if self._highest is None else round(self._highest, 1),
            done_bytes=done,
            total_bytes=sum(layer.size or 0 for layer in known),
            message=f"{complete} of {len(layers)} layers" if layers else "Asking the registry",
        )


# First match wins. "pull access denied … repository does not exist" is what a registry says
# both for a missing and for a private repository, so it stands before the other denials.
_CAUSES: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    (
        "no-space",
        ("no space left on device", "disk quota exceeded"),
        "There is no space left for the image on this machine.",
        "Ask an administrator to remove images that nobody uses.",
    ),
    (
        "rate-limit",
        ("toomanyrequests", "rate limit"),
        "The registry refuses further downloads for now.",
        "Try again later.",
    ),
    (
        "not-found",
        ("pull access denied", "manifest unknown", "manifest for", "not found", "name unknown",
         "name_unknown", "repository does not exist", "no matching manifest", "invalid reference"),
        "There is no such image, or it is not public.",
        "Check its name and tag.",
    ),
    (
        "auth",
        ("unauthorized", "authentication required", "no basic auth", "denied", "forbidden"),
        "The registry wants a login for this image.",
        "Ask an administrator to log this machine in to the registry.",
    ),
    (
        "network",
        ("dial tcp", "no such host", "timeout", "timed out", "connection re", "unreachable",
         "eof", "tls", "x509", "deadline exceeded", "temporary failure", "server misbehaving",
         "gave http response"),
        "The registry cannot be reached from this machine.",
        "Try again later; tell an administrator if it lasts.",
    ),
)  # fmt: skip


def pull_error(reference: str, text: str) -> ImagePullFailed:
    """Return the error for what the engine said; `fields["reason"]` is the kind of failure."""
    lowered = text.lower()
    for reason, marks, message, hint in _CAUSES:
        if any(mark in lowered for mark in marks):
            return ImagePullFailed(message, hint=hint, cause=text, reason=reason, image=reference)
    return ImagePullFailed(
        "The image could not be downloaded.",
        hint="Try again; tell an administrator if it fails again.",
        cause=text,
        reason="other",
        image=reference,
    )


def pull_cancelled(reference: str) -> ImagePullFailed:
    """Return the error of a pull that was given up on request."""
    return ImagePullFailed(
        "The download was cancelled.", cancelled=True, reason="cancelled", image=reference
    )
