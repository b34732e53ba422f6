"""Carry out a snapshot: commit the container, name the image; undo it on failure.

Every part may be repeated. The end is that of a build. Not in charge of: whether it is allowed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from catalog.models import Build, BuildPolicy
from catalog.services.build_end import complete_build, undo_build
from catalog.services.build_layers import BUILDER_LABEL, LAYER_LABEL, SHELL
from ds01portal.engine import get_engine
from ds01portal.engine.base import ContainerDetails, ContainerEngine, ImageConfig, ImageDetails
from ds01portal.exceptions import (
    BuildFailed,
    EngineConflict,
    EngineError,
    EngineTimeout,
    EngineUnreachable,
    MissingOnEngine,
    PortalError,
    RefusedError,
)
from ds01portal.limits import format_bytes
from ds01portal.services.operations import Cancelled, Work, timeout_error
from workspaces.models import Container
from workspaces.services.specs import LABEL_ID

__all__ = ["abandon_snapshot", "carry_out_snapshot"]

UNDO = "undo"
# What the launch gave this container and no other: the image must not hand it on.
RESET_ENVIRONMENT = {
    "HOME": "/root",
    "USER": "root",
    "LOGNAME": "root",
    "MPLCONFIGDIR": "/tmp/matplotlib",  # noqa: S108  inside of a container
    "NVIDIA_VISIBLE_DEVICES": "void",
}


def carry_out_snapshot(work: Work, *, engine: ContainerEngine | None = None) -> None:
    """Make the version that the operation asks for, or leave nothing and say why."""
    container = Container.objects.select_related("owner").get(pk=work.operation.subject_id)
    build = Build.objects.select_related("recipe__owner").get(pk=work.operation.params["build"])
    chosen = engine or get_engine()
    if work.operation.phase == UNDO:
        with contextlib.suppress(EngineConflict, MissingOnEngine), _held_still(container, chosen):
            pass  # an attempt that was killed may have left it paused
        _undo(work, build, chosen)
        return
    try:
        work.enter_phase("commit", f"Keeping {container.name} as {build.recipe.name}")
        with _held_still(container, chosen):
            details, written = _commit(container, build, chosen)
        work.enter_phase("finish", "Naming the image")
        chosen.tag_image(details.id, build.recipe.reference(build.number))
        chosen.tag_image(details.id, build.recipe.reference("latest"))
    except (EngineUnreachable, EngineTimeout):
        raise
    except Cancelled:
        _give_up(work, build, chosen, _stop_error(work))
    except PortalError as error:
        _give_up(work, build, chosen, {**error.as_dict(), "cause": error.cause})
    else:
        layers = [{"id": details.id, "bytes": written}]
        complete_build(work, build, details=details, layers=layers, engine=chosen)


def abandon_snapshot(work: Work, error: EngineError) -> None:
    """Undo a snapshot that fails again and again for no known reason."""
    build = Build.objects.select_related("recipe__owner").get(pk=work.operation.params["build"])
    _give_up(work, build, get_engine(), {**error.as_dict(), "cause": error.cause})


@contextlib.contextmanager
def _held_still(container: Container, engine: ContainerEngine) -> Iterator[None]:
    """Pause what runs, so that no file is caught half written; it goes on whatever happens.

    A worker that is killed in between is followed by one that comes here again.
    """
    if container.state != Container.State.RUNNING:
        yield
        return
    engine.pause_container(container.engine_name)
    try:
        yield
    finally:
        engine.resume_container(container.engine_name)


def _commit(
    container: Container, build: Build, engine: ContainerEngine
) -> tuple[ImageDetails, int]:
    """Return the image and the bytes of its own layer; one that an earlier attempt made is it."""
    details = engine.inspect_container(container.engine_name)
    if details.labels.get(LABEL_ID) != str(container.pk):
        raise MissingOnEngine(f"{container.name} is not on the engine any more.")
    written = engine.written_bytes(container.engine_name)
    limit = BuildPolicy.current().disk_bytes
    if written > limit:
        raise BuildFailed(
            f"{container.name} has written {format_bytes(written)}; an image may add "
            f"{format_bytes(limit)}.",
            hint="Move data to /workspace and delete caches, then try again.",
        )
    if made := engine.find_images(label=_mark(build)):
        return engine.inspect_image(made[0].id), written
    image = engine.commit_step(
        container.engine_name,
        config=_config(details, build),
        comment=f"DS01 Portal: snapshot of {container.name}",
    )
    return image, written


def _mark(build: Build) -> str:
    return f"{LAYER_LABEL}=snapshot-{build.pk}"


def _config(details: ContainerDetails, build: Build) -> ImageConfig:
    """Return what the image says of itself: nothing of the container's person, devices or id."""
    personal = {key: "" for key in details.labels if key.split(".")[0:2] == ["aime", "mlc"]}
    key, _, value = _mark(build).partition("=")
    return ImageConfig(
        environment=RESET_ENVIRONMENT,
        labels={**personal, BUILDER_LABEL: "", key: value},
        working_dir="/workspace",
        command=SHELL,
        user="0:0",
    )


def _stop_error(work: Work) -> dict[str, Any]:
    work.operation.refresh_from_db(fields=["cancel_requested"])
    if work.operation.cancel_requested:
        return {**RefusedError("The snapshot was cancelled.").as_dict(), "code": "cancelled"}
    return timeout_error(work.operation).as_dict()


def _give_up(work: Work, build: Build, engine: ContainerEngine, error: dict[str, Any]) -> None:
    work.begin_undo(error)  # stored first: the engine may go away meanwhile
    _undo(work, build, engine)


def _undo(work: Work, build: Build, engine: ContainerEngine) -> None:
    engine.remove_image(build.recipe.reference(build.number))
    for image in engine.find_images(label=_mark(build)):
        with contextlib.suppress(EngineConflict):
            engine.remove_image(image.id)
    undo_build(work, build, engine)
