"""Make a container on the engine, and unmake it: the steps that launch and start share.

Not in charge of: states, events, and whether any of it is allowed.
"""

from __future__ import annotations

import dataclasses

from ds01portal.engine.base import ContainerEngine, ContainerSpec, ImageDetails
from ds01portal.exceptions import (
    DeviceDriverMissing,
    EngineError,
    MissingOnEngine,
    RlimitRefused,
)
from workspaces.models import Container, Machine
from workspaces.services import assignments, folders, mounts
from workspaces.services.machine import note_learned
from workspaces.services.networks import remove_network_if_unused
from workspaces.services.specs import LABEL_ID, build_spec, run_reference


def prepare_spec(
    container: Container, engine: ContainerEngine, image: ImageDetails
) -> ContainerSpec:
    """Make folders and return the launch specification, fitted to the machine as it is now."""
    machine = Machine.current()
    fit_to_machine(container, machine)
    prepared = mounts.prepare_mounts(container=container, engine=engine, image=image)
    return build_spec(
        container=container,
        image=image,
        mounts=prepared,
        devices=assignments.held_devices(container=container),
        machine=machine,
    )


def fit_to_machine(container: Container, machine: Machine) -> None:
    """Clamp what was asked for before the machine's size was known; Docker refuses more CPUs."""
    for key, there in (("cpus", machine.cpus), ("memory", machine.memory_bytes)):
        if there and container.spec[key] > there:
            container.spec = {**container.spec, key: there}
            container.save(update_fields=["spec"])
            add_note(container, f"The {key} asked for were more than this machine has.")


def create_container(
    container: Container, engine: ContainerEngine, spec: ContainerSpec, image: ImageDetails
) -> None:
    """Create it on the engine and put the person in where mounts cannot."""
    engine_id = engine.create_container(spec)
    mounts.put_identity(container=container, engine=engine, image=image, engine_id=engine_id)
    Container.objects.filter(pk=container.pk).update(engine_id=engine_id)
    container.engine_id = engine_id


def start_or_adapt(
    container: Container, engine: ContainerEngine, spec: ContainerSpec, image: ImageDetails
) -> None:
    """Start; learn once what this engine cannot do, and create again without it.

    Simulated devices that the engine cannot take, and a memlock it may not raise (nested
    machines), are left out and said so. A real GPU that cannot be handed over is a failure.
    """
    for _attempt in range(3):
        try:
            engine.start_container(spec.name)
            return
        except RlimitRefused:
            if spec.memlock is None:
                raise
            note_learned(takes_memlock=False)
            spec = dataclasses.replace(spec, memlock=None)
            add_note(container, "This machine does not let containers lock memory (memlock).")
        except DeviceDriverMissing:
            note_learned(takes_devices=False)
            if not container.simulated:
                raise
            spec = build_spec(
                container=container,
                image=image,
                mounts=spec.mounts,
                devices=assignments.held_devices(container=container),
                machine=Machine.current(),
            )
            add_note(container, "The GPUs are simulated and not visible inside.")
        engine.remove_container(spec.name, force=True)
        create_container(container, engine, spec, image)
    raise EngineError("The container could not be started.", cause="three attempts")


def add_note(container: Container, note: str) -> None:
    if note not in container.notes:
        container.notes = [*container.notes, note]
        Container.objects.filter(pk=container.pk).update(notes=container.notes)


def discard(container: Container, engine: ContainerEngine) -> None:
    """Remove everything of a container from engine and host; the workspace stays."""
    discard_container(container, engine)
    discard_leftovers(container, engine)


def discard_container(container: Container, engine: ContainerEngine) -> None:
    """Remove the container itself, if it is the row's own."""
    try:
        details = engine.inspect_container(container.engine_name)
        if details.labels.get(LABEL_ID) == str(container.pk):
            engine.remove_container(details.id, force=True)
    except MissingOnEngine:
        pass


def discard_leftovers(container: Container, engine: ContainerEngine) -> None:
    """Remove what the portal made around a container that is gone already."""
    if container.origin != Container.Origin.PORTAL:
        return
    twin = Container.objects.counted().filter(engine_name=container.engine_name)
    if not twin.exclude(pk=container.pk).exists():  # a later container's tag has the same name
        engine.untag_image(run_reference(container.image_reference, container.engine_name))
    folders.remove_home(container=container)
    remove_network_if_unused(container=container, engine=engine)
