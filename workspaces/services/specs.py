"""The launch specification: from a row to exactly what the engine is told.

An allow-list, never AIME's launch line (privileged, host network). Pure: reads rows that were
loaded, calls nothing. Sources: the container contract of AIME MLC v4 labels, CIS Docker
Benchmark section 5.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from django.conf import settings

from ds01portal.engine.base import ContainerSpec, ImageDetails, Mount
from ds01portal.exceptions import ImageRefused
from ds01portal.models import Person
from workspaces.models import Container, Device, Machine
from workspaces.services.identities import home_inside

SHELL = ("/bin/sh", "-c", "command -v bash >/dev/null 2>&1 && exec bash; exec sh")
LABEL_ID = "aime.mlc.DS01_ID"
LABEL_MANAGED = "aime.mlc.DS01_MANAGED"


def engine_name(name: str, person: Person) -> str:
    """Return `{name}._.{uid}`, the name that `mlc` builds too."""
    return f"{name}._.{person.uid}"


def network_name(person: Person) -> str:
    """Return the name of a person's own network."""
    return f"ds01-{person.uid}"


def run_reference(image_reference: str, container_name: str) -> str:
    """Return `<image>:{name}._.{uid}`: `mlc remove` deletes this tag and leaves the image."""
    repository = image_reference.split("@", 1)[0]
    head, slash, tail = repository.rpartition("/")
    return f"{head}{slash}{tail.split(':', 1)[0]}:{container_name}"


def own_image_tag(container: Container) -> str:
    """Return the tag that goes with an adopted container, or nothing.

    `mlc create` commits an image for each container, named after it, and `mlc remove` deletes
    it with the container. Any other image is somebody's, and stays.
    """
    _, _, tag = container.image_reference.rpartition("/")[2].partition(":")
    is_own = container.origin == Container.Origin.MLC and tag == container.engine_name
    return container.image_reference if is_own else ""


def build_labels(container: Container, image: ImageDetails, passed: bool) -> dict[str, str]:
    """Return all labels; none has a comma, those inherited from the image included.

    `mlc list` splits on commas and would crash. A value can be overwritten, a label's name
    cannot: raise ImageRefused for an image with a comma in one.
    """
    person = container.owner
    assert person is not None
    _check_label_names(image)
    framework = f"{container.framework}-{container.version}".strip("-") or "custom"
    devices = container.spec.get("devices", [])
    catalogued = container.image is not None and container.image.kind == "catalog"
    labels = {
        "aime.mlc": person.login,
        "aime.mlc.NAME": container.name,
        "aime.mlc.USER": person.login,
        "aime.mlc.ARCH": container.architecture or "-",
        "aime.mlc.MLC_VERSION": "4",
        "aime.mlc.WORK_MOUNT": container.workspace_path or "-",
        "aime.mlc.DATA_MOUNT": container.spec.get("data_path") or "-",
        "aime.mlc.MODELS_MOUNT": container.spec.get("models_path") or "-",
        "aime.mlc.FRAMEWORK": framework,
        "aime.mlc.GPUS": str(len(devices)),
        LABEL_MANAGED: "true",
        "aime.mlc.CUSTOM_IMAGE": "" if catalogued else container.image_reference,
        LABEL_ID: str(container.pk),
        "aime.mlc.DS01_UID": str(person.uid),
        "aime.mlc.DS01_DEVICES": ";".join(devices),
        "aime.mlc.DS01_SIMULATED": str(bool(devices) and container.simulated).lower(),
        "aime.mlc.DS01_DEVICES_PASSED": str(passed).lower(),
    }
    inherited = {key: value for key, value in image.labels.items() if "," in value}
    return {key: value.replace(",", ";") for key, value in {**inherited, **labels}.items()}


def _check_label_names(image: ImageDetails) -> None:
    for key in image.labels:
        if "," in key:
            raise ImageRefused(
                f"The image has a label with a comma in its name: “{key[:60]}”.",
                hint="Build it without that label, or choose another image.",
                field="image",
                value=key[:60],
            )


def build_environment(container: Container, devices: list[str]) -> dict[str, str]:
    """Return the variables set by the portal. Absent never means all: no GPU says `void`."""
    person = container.owner
    assert person is not None
    home = home_inside(person)
    return {
        "HOME": home,
        "USER": str(person.linux_name),
        "LOGNAME": str(person.linux_name),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "NVIDIA_VISIBLE_DEVICES": ",".join(devices) or "void",
        "HF_HOME": "/workspace/.cache/huggingface",
        "TORCH_HOME": "/workspace/.cache/torch",
        "MPLCONFIGDIR": f"{home}/.config/matplotlib",
    }


def build_spec(
    *,
    container: Container,
    image: ImageDetails,
    mounts: tuple[Mount, ...],
    devices: list[Device],
    machine: Machine,
) -> ContainerSpec:
    """Return what the engine is told. Sizes come from `container.spec`, checked before."""
    person = container.owner
    assert person is not None
    size: Mapping[str, int | float] = container.spec
    passed = passes_devices(devices, machine)
    uuids = [device.uuid for device in devices] if passed else []
    swap = int(size["swap"])
    return ContainerSpec(
        name=container.engine_name,
        image=run_reference(container.image_reference, container.engine_name),
        hostname=re.sub(r"[^a-zA-Z0-9-]", "-", container.name)[:63].strip("-") or "container",
        user=f"{person.uid}:{person.gid}",
        command=SHELL,
        working_dir="/workspace",
        environment=build_environment(container, uuids),
        labels=build_labels(container, image, passed),
        mounts=mounts,
        network=network_name(person),
        devices=tuple(uuids),
        cpus=float(size["cpus"]),
        memory=int(size["memory"]),
        memory_swap=-1 if swap < 0 else int(size["memory"]) + swap,
        shm_size=int(size["shm"]),
        pids_limit=int(size["pids"]),
        memlock=settings.DS01_MEMLOCK if machine.takes_memlock is not False else None,
        stack=settings.DS01_STACK,
    )


def passes_devices(devices: list[Device], machine: Machine) -> bool:
    """Tell whether the devices go to the engine: real ones always, simulated ones if it can."""
    if not devices:
        return False
    return machine.takes_devices is not False or not any(row.simulated for row in devices)
