"""The launch specification: an allow-list, and labels that `mlc` can read."""

from __future__ import annotations

import datetime as dt

import pytest

from ds01portal.engine.base import ImageDetails
from workspaces.models import Container, Device, Machine
from workspaces.services import specs

SIZE = {"cpus": 4, "memory": 8 * 1024**3, "swap": 0, "shm": 1024**3, "pids": 100}


def details(**labels):
    return ImageDetails(
        id="sha256:1",
        tags=(),
        size=1,
        created_at=dt.datetime(2025, 1, 1, tzinfo=dt.UTC),
        labels=labels,
        environment={},
    )


@pytest.fixture
def person(alice):
    return alice


def make(person, name="thesis", **values):
    return Container(
        owner=person,
        name=name,
        engine_name=f"{name}._.{person.uid}",
        image_reference=values.pop("image_reference", "lab/image:1"),
        framework="Pytorch",
        version="2.8.0",
        architecture="CUDA_ADA",
        spec={**SIZE, **values.pop("spec", {})},
        **values,
    )


def build(container, image=None, devices=(), **facts):
    return specs.build_spec(
        container=container,
        image=image or details(),
        mounts=(),
        devices=list(devices),
        machine=Machine(**facts),
    )


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("image", "image:c._.1"),
        ("image:1.2", "image:c._.1"),
        ("lab/image", "lab/image:c._.1"),
        ("lab/image:1", "lab/image:c._.1"),
        ("registry.example:5000/image", "registry.example:5000/image:c._.1"),
        ("registry.example:5000/lab/image:1", "registry.example:5000/lab/image:c._.1"),
        (f"lab/image@sha256:{'0' * 64}", "lab/image:c._.1"),
        (f"r.example:5000/a/b:1@sha256:{'0' * 64}", "r.example:5000/a/b:c._.1"),
    ],
)
def test_the_containers_own_tag_leaves_the_shared_image_alone(reference, expected):
    assert specs.run_reference(reference, "c._.1") == expected


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "hostname"),
    [
        ("thesis", "thesis"),
        ("my_thesis-1", "my-thesis-1"),
        ("a_", "a"),
        ("-x-", "x"),
        ("___", "container"),
        ("a" * 60, "a" * 60),
        ("a" * 62 + "-b", "a" * 62),
    ],
)
def test_a_hostname_has_letters_digits_and_inner_hyphens(person, name, hostname):
    assert build(make(person, name)).hostname == hostname


@pytest.mark.django_db
def test_labels_are_those_of_mlc_and_the_portals_own(person):
    labels = build(make(person)).labels
    assert labels["aime.mlc"] == "alice"
    assert labels["aime.mlc.NAME"] == "thesis"
    assert labels["aime.mlc.USER"] == "alice"
    assert labels["aime.mlc.ARCH"] == "CUDA_ADA"
    assert labels["aime.mlc.MLC_VERSION"] == "4"
    assert labels["aime.mlc.FRAMEWORK"] == "Pytorch-2.8.0"
    assert labels["aime.mlc.GPUS"] == "0"
    for absent in ("WORK_MOUNT", "DATA_MOUNT", "MODELS_MOUNT"):
        assert labels[f"aime.mlc.{absent}"] == "-"
    assert labels["aime.mlc.DS01_MANAGED"] == "true"
    assert labels["aime.mlc.CUSTOM_IMAGE"] == "lab/image:1"


@pytest.mark.django_db
def test_no_label_has_a_comma_not_even_one_of_the_image(person):
    """`mlc list` splits on commas and crashes."""
    image = details(maintainers="a, b, c", plain="x")
    container = make(person, spec={"devices": ["GPU-1", "GPU-2"], "data_path": "/data/a,b"})
    labels = build(container, image).labels
    assert not any("," in value for value in labels.values())
    assert labels["maintainers"] == "a; b; c"
    assert "plain" not in labels  # the engine inherits it by itself
    assert labels["aime.mlc.DS01_DEVICES"] == "GPU-1;GPU-2"
    assert labels["aime.mlc.GPUS"] == "2"


@pytest.mark.django_db
def test_swap_comes_on_top_of_memory_and_unlimited_stays_so(person):
    memory = SIZE["memory"]
    assert build(make(person)).memory_swap == memory
    assert build(make(person, spec={"swap": 1024**3})).memory_swap == memory + 1024**3
    assert build(make(person, spec={"swap": -1})).memory_swap == -1


@pytest.mark.django_db
def test_a_machine_that_may_not_lock_memory_is_not_asked_to(person):
    assert build(make(person)).memlock == -1
    assert build(make(person), takes_memlock=True).memlock == -1
    assert build(make(person), takes_memlock=False).memlock is None


@pytest.mark.django_db
def test_no_device_means_void_and_never_all(person):
    spec = build(make(person))
    assert spec.environment["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert spec.devices == ()


@pytest.mark.django_db
def test_devices_go_by_uuid(person):
    devices = [Device(uuid="GPU-1"), Device(uuid="GPU-2")]
    spec = build(make(person, spec={"devices": ["GPU-1", "GPU-2"]}), devices=devices)
    assert spec.devices == ("GPU-1", "GPU-2")
    assert spec.environment["NVIDIA_VISIBLE_DEVICES"] == "GPU-1,GPU-2"


@pytest.mark.django_db
def test_simulated_devices_are_left_out_where_the_engine_cannot_take_them(person):
    simulated = [Device(uuid="GPU-s", simulated=True)]
    container = make(person, spec={"devices": ["GPU-s"]}, simulated=True)
    assert build(container, devices=simulated).devices == ("GPU-s",)
    spec = build(container, devices=simulated, takes_devices=False)
    assert spec.devices == ()
    assert spec.environment["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert spec.labels["aime.mlc.DS01_DEVICES_PASSED"] == "false"
    real = [Device(uuid="GPU-r")]
    assert build(container, devices=real, takes_devices=False).devices == ("GPU-r",)


@pytest.mark.django_db
def test_a_person_with_a_large_uid_is_who_the_container_runs_as(person):
    person.uid = person.gid = 1722830498
    spec = build(make(person))
    assert spec.user == "1722830498:1722830498"
    assert spec.name == "thesis._.1722830498"
    assert spec.network == "ds01-1722830498"
    assert spec.environment["HOME"] == "/home/alice"
