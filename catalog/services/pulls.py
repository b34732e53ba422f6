"""Get an image onto the machine: pulls that are shared, cancellable, and show their progress.

Everybody who wants the same image at the same time waits for one pull, which runs in a thread
of its own and touches no database. Who leaves is gone at once; the pull ends when the last one
has left. Sharing is per process: one worker process carries out all operations, and between
processes the engine itself shares the download of a layer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from django.conf import settings

from catalog.models import Image
from catalog.references import apply_mirror, canonical_reference, parse_reference
from catalog.services.images import record_image_on_engine
from ds01portal.engine import get_engine
from ds01portal.engine.base import ContainerEngine, ImageDetails, PullProgress
from ds01portal.exceptions import EngineError, ImagePullFailed, ImageRefused, MissingOnEngine
from ds01portal.models import Operation, Person
from ds01portal.services.events import record_event
from ds01portal.services.operations import Cancelled, Work, request_operation

__all__ = ["carry_out_pull", "ensure_image", "find_image_on_engine", "request_pull"]

POLL_INTERVAL = 0.2  # seconds between two questions whether the asker has cancelled
Progress = Callable[[PullProgress], None]


class _SharedPull:
    """One pull under way. `condition` guards everything; the thread ends with it settled."""

    def __init__(self, engine: ContainerEngine, reference: str) -> None:
        self.engine = engine
        self.reference = reference
        self.condition = threading.Condition()
        self.waiting = 0
        self.progress: PullProgress | None = None
        self.details: ImageDetails | None = None
        self.error: Exception | None = None

    def run(self) -> None:
        """Pull, and wake everybody with the image or the error."""
        details: ImageDetails | None = None
        error: Exception | None = None
        try:
            details = _pull(
                self.engine,
                self.reference,
                on_progress=self._keep_progress,
                is_cancelled=self._is_abandoned,
            )
        except Exception as caught:  # noqa: BLE001  handed to everybody who waits
            error = caught
        _forget(self)
        with self.condition:
            self.details, self.error = details, error
            self.condition.notify_all()

    def _keep_progress(self, progress: PullProgress) -> None:
        with self.condition:
            self.progress = progress
            self.condition.notify_all()

    def _is_abandoned(self) -> bool:
        with self.condition:
            return self.waiting == 0


_registry_lock = threading.Lock()
_registry: dict[tuple[int, str], _SharedPull] = {}


def ensure_image(
    *,
    reference: str,
    on_progress: Progress,
    is_cancelled: Callable[[], bool],
    engine: ContainerEngine | None = None,
) -> ImageDetails:
    """Return the image, pulled when it is not on this machine; callbacks run in this thread.

    Raise ImagePullFailed, with `cancelled=True` in its fields when `is_cancelled()` said so,
    and the engine's other errors. May be repeated: what was downloaded is kept by the engine.
    """
    chosen = engine or get_engine()
    name = str(parse_reference(reference))
    try:
        return chosen.inspect_image(name)
    except MissingOnEngine:
        return _wait_for(_join(chosen, name), on_progress, is_cancelled)


def find_image_on_engine(
    *, reference: str, engine: ContainerEngine | None = None
) -> ImageDetails | None:
    """Return the image when it is on this machine, without pulling."""
    try:
        return (engine or get_engine()).inspect_image(str(parse_reference(reference)))
    except MissingOnEngine:
        return None


def request_pull(*, image: Image, actor: Person | None) -> Operation:
    """Ask the worker to pull an image ahead of time; asked twice gives the same operation."""
    if image.kind == Image.Kind.LOCAL:
        raise ImageRefused(
            f"{image.reference} is an image of this machine and cannot be pulled.",
            hint="Build or load it on this machine.",
            image=image.reference,
        )
    if image.is_retired:
        raise ImageRefused(f"{image} is retired.", hint="Restore it first.", image=image.reference)
    # No owner: everybody who looks at the image may see that it is on its way.
    return request_operation(
        kind="pull",
        subject_kind="image",
        subject_id=str(image.pk),
        subject_label=f"{image} ({image.reference})",
        owner=None,
        actor=actor,
        params={"image": image.pk, "reference": image.reference},
    )


def carry_out_pull(work: Work, *, engine: ContainerEngine | None = None) -> None:
    """Do what `request_pull` asked for, in a worker. Raise Cancelled or an EngineError."""
    operation = work.operation
    reference = str(operation.params["reference"])
    work.enter_phase("pull", f"Pulling {reference}")
    try:
        details = ensure_image(
            reference=reference,
            on_progress=lambda progress: work.report(progress.percent, progress.message),
            is_cancelled=work.is_cancelled,
            engine=engine,
        )
    except ImagePullFailed as error:
        if error.fields.get("cancelled"):
            raise Cancelled from error
        raise
    image = Image.objects.filter(pk=operation.params["image"]).first()
    if image is None or image.reference != reference:
        return
    record_image_on_engine(image=image, details=details)
    record_event(
        verb="pull",
        subject_kind="image",
        subject_id=str(image.pk),
        subject_label=f"{image} ({reference})",
        actor=operation.actor,
        after={"engine_image_id": details.id, "size_bytes": details.size},
    )


def _pull(
    engine: ContainerEngine,
    name: str,
    *,
    on_progress: Progress,
    is_cancelled: Callable[[], bool],
) -> ImageDetails:
    """Pull, through the mirror where one is set, and leave it under its own name only.

    The own name is what the catalogue, containers and AIME's `mlc` ask for.
    """
    parsed = parse_reference(name)
    # A digest belongs to a repository and cannot be given to another name.
    mirror = "" if parsed.digest else settings.DS01_REGISTRY_MIRROR
    address = apply_mirror(name, mirror=mirror)
    details = engine.pull_image(address, on_progress=on_progress, is_cancelled=is_cancelled)
    if canonical_reference(address) == canonical_reference(name):
        return details
    engine.tag_image(address, str(parsed.with_tag(parsed.tag or "latest")))
    engine.untag_image(address)
    return engine.inspect_image(name)


def _join(engine: ContainerEngine, name: str) -> _SharedPull:
    key = (id(engine), canonical_reference(name))
    with _registry_lock:
        pull = _registry.get(key)
        if pull is not None:
            with pull.condition:
                # One that everybody has left is being given up: start afresh instead.
                if pull.waiting:
                    pull.waiting += 1
                    return pull
        pull = _registry[key] = _SharedPull(engine, name)
        pull.waiting = 1
    threading.Thread(target=pull.run, name=f"pull {name}", daemon=True).start()
    return pull


def _forget(pull: _SharedPull) -> None:
    with _registry_lock:
        for key, running in list(_registry.items()):
            if running is pull:
                del _registry[key]


def _wait_for(
    pull: _SharedPull, on_progress: Progress, is_cancelled: Callable[[], bool]
) -> ImageDetails:
    try:
        return _follow(pull, on_progress, is_cancelled)
    finally:
        with pull.condition:
            pull.waiting -= 1


def _follow(
    pull: _SharedPull, on_progress: Progress, is_cancelled: Callable[[], bool]
) -> ImageDetails:
    shown: PullProgress | None = None
    next_question = 0.0
    while True:
        with pull.condition:
            if pull.details is None and pull.error is None and pull.progress is shown:
                pull.condition.wait(POLL_INTERVAL)
            details, error, progress = pull.details, pull.error, pull.progress
        if details is not None:
            return details
        if error is not None:
            raise _copy_error(error, pull.reference)
        if progress is not None and progress is not shown:
            shown = progress
            on_progress(progress)
        if time.monotonic() < next_question:
            continue
        next_question = time.monotonic() + POLL_INTERVAL
        if is_cancelled():
            raise ImagePullFailed(
                f"The pull of {pull.reference} was cancelled.", image=pull.reference, cancelled=True
            )


def _copy_error(error: Exception, reference: str) -> Exception:
    # Several waiters raise it in their own threads: a shared object would mix their traces.
    if isinstance(error, EngineError):
        copy = type(error)(error.message, hint=error.hint, cause=error.cause, **error.fields)
        copy.__cause__ = error
        return copy
    failure = ImagePullFailed(
        f"The pull of {reference} failed.", cause=repr(error), image=reference
    )
    failure.__cause__ = error
    return failure
