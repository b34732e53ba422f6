"""Containers that others made: whose they are, what they are, and which devices they take."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from conftest import Launch, make_person
from ds01portal.engine.base import Mount
from ds01portal.engine.fake import FakeEngine
from ds01portal.exceptions import ImageRefused, NoFreeDevice, QuotaExceeded
from ds01portal.models import Event, Person
from workspaces.models import Container, Device, ForeignUse
from workspaces.services import adoption, assignments, carrying, containers
from workspaces.services.reconciliation import ReconcileReport, reconcile_containers
from workspaces.services.specs import own_image_tag

pytestmark = pytest.mark.django_db

Origin, State = Container.Origin, Container.State


def mlc_labels(user: str, name: str, **others: str) -> dict[str, str]:
    """Return the labels that `mlc create` version 4 writes."""
    return {
        "aime.mlc": user,
        "aime.mlc.NAME": name,
        "aime.mlc.USER": user,
        "aime.mlc.ARCH": "CUDA_ADA",
        "aime.mlc.MLC_VERSION": "4",
        "aime.mlc.WORK_MOUNT": f"/home/{user}/workspace",
        "aime.mlc.DATA_MOUNT": "-",
        "aime.mlc.MODELS_MOUNT": "-",
        "aime.mlc.FRAMEWORK": "Pytorch-2.7.1",
        "aime.mlc.GPUS": "all",
        **others,
    }


def adopted(name: str) -> Container:
    reconcile_containers()
    return Container.objects.live().get(engine_name=name)


def taken() -> set[str]:
    reconcile_containers()
    return set(ForeignUse.objects.values_list("device_id", flat=True))


def slots(uuids: set[str]) -> list[str]:
    return [row.slot for row in Device.objects.all() if row.pk in uuids]


def folder_of(person: Person, path: Path) -> str:
    path.mkdir()
    assert person.uid is not None
    os.chown(path, person.uid, person.uid)
    return str(path)


# Whose it is


def test_a_container_of_mlc_is_shown_to_its_owner_with_what_its_labels_say(
    portal: FakeEngine, alice: Person, charlie: Person
) -> None:
    portal.spawn_foreign(
        "bert._.200001",
        image="aimehub/pytorch-2.7.1-cuda12.6.3:bert._.200001",
        labels=mlc_labels("alice", "bert"),
    )
    row = adopted("bert._.200001")
    assert (row.owner, row.name, row.origin, row.state) == (alice, "bert", "mlc", "running")
    assert (row.framework, row.version, row.architecture) == ("Pytorch", "2.7.1", "CUDA_ADA")
    assert row.workspace_path == "/home/alice/workspace"
    assert row.started_at is not None
    assert row in Container.objects.visible_to(alice)
    assert row not in Container.objects.visible_to(charlie)
    assert Event.objects.get(verb="adopted").subject_id == str(row.pk)


def test_a_label_counts_more_than_the_name_and_the_name_more_than_a_folder(
    portal: FakeEngine, alice: Person, bob: Person, charlie: Person, tmp_path: Path
) -> None:
    mine = folder_of(alice, tmp_path / "alice")
    his = folder_of(bob, tmp_path / "bob")
    mount = (Mount(source=mine, target="/data"),)
    devcontainer = {"devcontainer.local_folder": his}
    cases: list[tuple[str, dict[str, str], tuple[Mount, ...], Person | None]] = [
        ("a._.200003", {"ds01.user": "alice", **devcontainer}, (), alice),
        ("b._.200003", {"aime.mlc.USER": "alice", **devcontainer}, (), alice),
        ("c._.200003", {"aime.mlc": "alice"}, (), alice),
        ("d._.200003", {"aime.mlc.username": "alice"}, (), alice),
        ("e._.200003", {"ds01.user": "alice", "aime.mlc.USER": "bob"}, (), alice),
        ("f._.200003", devcontainer, mount, charlie),
        ("vscode-f", devcontainer, mount, bob),
        ("jupyter", {}, mount, alice),
        ("nobodys", {}, (), None),
    ]
    for name, labels, mounts, _ in cases:
        portal.spawn_foreign(name, labels=labels, mounts=mounts)
    reconcile_containers()
    found = {row.engine_name: row.owner for row in Container.objects.live()}
    assert found == {name: owner for name, _, _, owner in cases}


def test_a_label_that_names_nobody_here_leaves_the_word_to_the_name(
    portal: FakeEngine, alice: Person
) -> None:
    portal.spawn_foreign("bert._.200001", labels=mlc_labels("somebody-else", "bert"))
    assert adopted("bert._.200001").owner == alice


def test_a_login_of_the_host_counts_before_a_name_given_by_the_portal(
    portal: FakeEngine, db: None
) -> None:
    make_person("h.baker", "student", 200011)
    theirs = make_person("hb", "student", 200012, system_login="h.baker")
    portal.spawn_foreign("box", labels=mlc_labels("h.baker", "box"))
    assert adopted("box").owner == theirs


def test_a_link_to_somebodys_folder_is_that_folder(
    portal: FakeEngine, alice: Person, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(folder_of(alice, tmp_path / "real"))
    portal.spawn_foreign("box", mounts=(Mount(source=str(tmp_path / "link"), target="/w"),))
    assert adopted("box").owner == alice


@pytest.mark.parametrize(
    "folder", ["", ".", "workspaces", "/nowhere/at/all", "/tmp/\0", "C:\\Users\\alice"]
)
def test_a_folder_that_is_none_says_nothing(portal: FakeEngine, alice: Person, folder: str) -> None:
    portal.spawn_foreign("box", labels={"devcontainer.local_folder": folder})
    assert adopted("box").owner is None


def test_a_container_gets_its_owner_when_that_person_comes_to_the_portal(
    portal: FakeEngine,
) -> None:
    portal.spawn_foreign("early._.200001", labels=mlc_labels("alice", "early"))
    assert adopted("early._.200001").owner is None
    alice = make_person("alice", "student", 200001)
    assert adopted("early._.200001").owner == alice


# What it is


@pytest.mark.parametrize(
    ("labels", "origin"),
    [
        ({"aime.mlc": "alice"}, Origin.MLC),
        ({"aime.mlc.USER": "alice"}, Origin.MLC),
        ({"ds01.user": "alice", "ds01.managed": "true"}, Origin.DS01),
        ({"ds01.project": "thesis", "ds01.managed": "true", "maintainer": "a"}, Origin.DOCKER),
        ({"aime.mlc.CUSTOM_IMAGE": ""}, Origin.DOCKER),
        ({}, Origin.DOCKER),
    ],
    ids=["mlc", "old mlc", "ds01", "image of ds01", "image of the portal", "plain"],
)
def test_who_made_it_is_read_from_the_labels_that_tools_filter_by(
    labels: Mapping[str, str], origin: Origin
) -> None:
    assert adoption.origin_of(labels) == origin


def test_a_name_with_a_hash_is_accepted(portal: FakeEngine, alice: Person) -> None:
    portal.spawn_foreign("run#1._.200001", labels=mlc_labels("alice", "run#1"))
    row = adopted("run#1._.200001")
    assert (row.owner, row.name) == (alice, "run#1")


def test_the_second_container_of_mlc_create_replaces_what_the_first_one_said(
    portal: FakeEngine, alice: Person
) -> None:
    """`mlc create` runs one without labels to commit it, and creates one from the commit."""
    name = "bert._.200001"
    first = portal.spawn_foreign(name, image="aimehub/pytorch-2.7.1", labels={})
    assert adopted(name).origin == Origin.DOCKER
    portal.remove_container(first, force=True)
    portal.spawn_foreign(
        name,
        image=f"aimehub/pytorch-2.7.1:{name}",
        labels=mlc_labels("alice", "bert"),
        running=False,
    )
    row = adopted(name)
    assert (row.origin, row.framework, row.version) == (Origin.MLC, "Pytorch", "2.7.1")
    assert row.image_reference == f"aimehub/pytorch-2.7.1:{name}"
    assert row.workspace_path == "/home/alice/workspace"
    assert (row.owner, row.state) == (alice, State.CREATED)
    assert own_image_tag(row) == row.image_reference


@pytest.mark.parametrize("label", ["ds01.protected", "ds01.monitoring", "aime.mlc.DS01_TEMP"])
def test_the_sites_own_containers_are_nobodys_session_and_take_no_device(
    portal: FakeEngine, label: str
) -> None:
    portal.spawn_foreign("exporter", labels={label: "true"}, all_devices=True)
    assert taken() == set()
    assert not Container.objects.exists()


def test_a_container_that_is_said_not_to_be_the_sites_own_is_adopted(portal: FakeEngine) -> None:
    portal.spawn_foreign("box", labels={"ds01.protected": "false"}, all_devices=True)
    assert adopted("box").origin == Origin.DOCKER


def test_a_step_of_an_image_build_is_nobodys_container(portal: FakeEngine) -> None:
    portal.spawn_foreign("ds01-build.6f1c.1", labels={"aime.mlc.DS01_BUILDER": "6f1c"})

    reconcile_containers()

    assert not Container.objects.exists()


def test_the_mark_of_a_build_on_somebodys_own_container_hides_nothing(portal: FakeEngine) -> None:
    portal.spawn_foreign("mine", labels={"aime.mlc.DS01_BUILDER": "6f1c"}, all_devices=True)

    assert taken()
    assert Container.objects.get().engine_name == "mine"


def test_hostile_text_is_cut_and_hurts_nobody(portal: FakeEngine, alice: Person) -> None:
    portal.spawn_foreign(
        "evil",
        image="r" * 400 + ":1",
        labels={
            "aime.mlc": "x" * 5000,
            "aime.mlc.FRAMEWORK": "F" * 5000 + "-" + "9" * 5000,
            "aime.mlc.WORK_MOUNT": "/w\0" + "w" * 5000,
            "aime.mlc.ARCH": "A" * 5000,
        },
        device_count=1_000_000,
    )
    portal.spawn_foreign("n._." + "9" * 5000)
    portal.spawn_foreign("z" * 300, device_count=1)
    portal.spawn_foreign("after._.200001", labels=mlc_labels("alice", "after"))
    report = reconcile_containers()
    assert len(report.adopted) == 4
    row = Container.objects.get(engine_name="evil")
    assert row.owner is None
    assert (len(row.framework), len(row.version), len(row.architecture)) == (100, 100, 40)
    assert row.workspace_path.startswith("/ww")
    assert row.devices_requested == adoption.MOST_DEVICES
    assert Container.objects.get(engine_name="after._.200001").owner == alice
    # Too long a name for a row, yet what it uses counts.
    assert not Container.objects.filter(engine_name__startswith="zzz").exists()
    assert ForeignUse.objects.filter(engine_name="z" * 255).count() == 1


def test_an_owner_of_a_container_may_stop_start_and_remove_it_here(
    portal: FakeEngine, alice: Person
) -> None:
    tag = "aimehub/pytorch-2.7.1:bert._.200001"
    portal.spawn_foreign("bert._.200001", image=tag, labels=mlc_labels("alice", "bert"))
    row = adopted("bert._.200001")
    for verb, state in (("stop", "stopped"), ("start", "running"), ("remove", "removed")):
        containers.VERBS[verb](container=row, actor=alice)
        carrying.carry_out_due()
        row.refresh_from_db()
        assert row.state == state
    assert portal.containers == {}
    assert not any(tag in image.tags for image in portal.images.values())


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        ("aimehub/pytorch-2.7.1:latest", mlc_labels("alice", "bert")),
        ("aimehub/pytorch-2.7.1:other._.200001", mlc_labels("alice", "bert")),
        ("registry.example:5000/pytorch", mlc_labels("alice", "bert")),
        ("aimehub/pytorch-2.7.1:bert._.200001", {"ds01.user": "alice"}),
        ("aimehub/pytorch-2.7.1:bert._.200001", {}),
    ],
)
def test_an_image_that_is_not_a_containers_own_stays_when_it_is_removed(
    portal: FakeEngine, alice: Person, image: str, labels: dict[str, str]
) -> None:
    portal.spawn_foreign("bert._.200001", image=image, labels=labels)
    row = adopted("bert._.200001")
    assert own_image_tag(row) == ""
    images = {tag for one in portal.images.values() for tag in one.tags}
    containers.remove_container(container=row, actor=alice)
    carrying.carry_out_due()
    assert portal.containers == {}
    assert {tag for one in portal.images.values() for tag in one.tags} == images


def test_an_own_image_that_another_container_uses_stays(portal: FakeEngine, alice: Person) -> None:
    tag = "aimehub/pytorch-2.7.1:bert._.200001"
    portal.spawn_foreign("bert._.200001", image=tag, labels=mlc_labels("alice", "bert"))
    portal.spawn_foreign("second", image=tag)
    containers.remove_container(container=adopted("bert._.200001"), actor=alice)
    carrying.carry_out_due()
    assert [one.name for one in portal.containers.values()] == ["second"]
    assert any(tag in image.tags for image in portal.images.values())
    assert not Container.objects.live().filter(engine_name="bert._.200001").exists()


# Which devices it takes


def gpu(slot: str) -> str:
    return next(row.uuid for row in Device.objects.all() if row.slot == slot)


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        ({"all_devices": True}, ["0", "1", "2", "3", "4", "4.0", "4.1"]),
        ({"device_count": 2}, ["0", "1"]),
        ({"device_count": 99}, ["0", "1", "2", "3", "4"]),
        ({"devices": ("1", "3")}, ["1", "3"]),
        ({"devices": ("4:1",)}, ["4.1"]),
        ({"environment": {"NVIDIA_VISIBLE_DEVICES": "0,2"}}, ["0", "2"]),
        (
            {"environment": {"NVIDIA_VISIBLE_DEVICES": " 0 , 4:0"}, "runtime": "nvidia"},
            ["0", "4.0"],
        ),
        (
            {"environment": {"NVIDIA_VISIBLE_DEVICES": "all"}, "runtime": "nvidia"},
            ["0", "1", "2", "3", "4", "4.0", "4.1"],
        ),
        # Most CUDA images say `all`; without NVIDIA's runtime that has no effect,
        # and a request overrides it.
        ({"environment": {"NVIDIA_VISIBLE_DEVICES": "all"}}, []),
        ({"environment": {"NVIDIA_VISIBLE_DEVICES": "all"}, "device_count": 1}, ["0"]),
        ({"environment": {"NVIDIA_VISIBLE_DEVICES": "all"}, "devices": ("2",)}, ["2"]),
        ({"environment": {"NVIDIA_VISIBLE_DEVICES": "void"}, "runtime": "nvidia"}, []),
        ({"environment": {"NVIDIA_VISIBLE_DEVICES": "none"}, "runtime": "nvidia"}, []),
        ({"environment": {"NVIDIA_VISIBLE_DEVICES": ""}, "runtime": "nvidia"}, []),
        ({"environment": {"NVIDIA_VISIBLE_DEVICES": "77,GPU-unknown"}}, []),
        ({}, []),
    ],
)
def test_devices_used_outside_of_the_portal_are_taken(
    portal: FakeEngine, wishes: dict[str, Any], expected: list[str]
) -> None:
    portal.spawn_foreign("box", **wishes)
    assert slots(taken()) == expected
    free = {row.slot for row in Device.objects.free()}
    assert free.isdisjoint(expected)
    if "4" in expected:
        assert free.isdisjoint({"4.0", "4.1"})


def test_a_uuid_is_taken_whole_or_mig(portal: FakeEngine) -> None:
    portal.spawn_foreign("whole", devices=(gpu("2"),))
    portal.spawn_foreign(
        "slice", runtime="nvidia", environment={"NVIDIA_VISIBLE_DEVICES": gpu("4.0")}
    )
    assert slots(taken()) == ["2", "4.0"]
    assert {row.slot for row in Device.objects.free()} == {"0", "1", "3", "4.1"}


def test_all_requests_of_a_container_count_not_only_the_first(portal: FakeEngine) -> None:
    box = portal.spawn_foreign("box", devices=(gpu("0"),))
    requests = portal.containers[box].raw["HostConfig"]["DeviceRequests"]
    requests.append({"Driver": "", "Count": 0, "DeviceIDs": [gpu("3")], "Capabilities": [["gpu"]]})
    requests.append(
        {"Driver": "cdi", "Count": 0, "DeviceIDs": ["nvidia.com/gpu=1"], "Capabilities": None}
    )
    assert slots(taken()) == ["0", "1", "3"]


def test_only_what_runs_takes_a_device_and_a_stop_frees_it(
    portal: FakeEngine, alice: Person
) -> None:
    box = portal.spawn_foreign(
        "box._.200001", labels=mlc_labels("alice", "box"), all_devices=True, running=False
    )
    assert taken() == set()
    portal.start_container(box)
    assert len(taken()) == 7
    assert not Device.objects.free().exists()
    portal.pause_container(box)
    assert len(taken()) == 7
    portal.resume_container(box)
    portal.stop_container(box)
    assert taken() == set()
    assert Device.objects.free().count() == 6
    portal.start_container(box)
    assert len(taken()) == 7
    portal.remove_container(box, force=True)
    assert taken() == set()


def test_a_full_machine_and_a_used_quota_are_two_refusals(
    portal: FakeEngine, ask: Launch, alice: Person, bob: Person
) -> None:
    """What a container takes counts against the person its label names, as used."""
    portal.spawn_foreign("box", labels=mlc_labels("alice", "box"), device_count=2)
    reconcile_containers()
    assert assignments.used_gpueq(owner=alice) == 2.0
    assert assignments.used_gpueq(owner=bob) == 0.0
    with pytest.raises(QuotaExceeded) as refusal:
        ask(alice, devices=1)
    assert refusal.value.fields["used"] == 2.0
    portal.spawn_foreign("rest", all_devices=True)
    reconcile_containers()
    with pytest.raises(NoFreeDevice):
        ask(bob, devices=1)


def test_a_hostile_label_never_makes_anybodys_use_less_than_nothing(
    portal: FakeEngine, alice: Person, charlie: Person
) -> None:
    """Charlie writes Alice's name: she sees it and may remove it; then it counts no more."""
    portal.spawn_foreign("evil._.200003", labels={"ds01.user": "alice"}, device_count=1)
    row = adopted("evil._.200003")
    assert row.owner == alice
    assert assignments.used_gpueq(owner=alice) == 1.0
    assert assignments.used_gpueq(owner=charlie) == 0.0
    containers.remove_container(container=row, actor=alice)
    carrying.carry_out_due()
    reconcile_containers()
    assert assignments.used_gpueq(owner=alice) == 0.0


def test_labels_of_the_portal_that_came_with_an_image_hide_no_device(
    portal: FakeEngine, launch: Launch, alice: Person
) -> None:
    """A commit of the portal's container carries its labels on; so does another portal."""
    own = launch(alice, "own", devices=1)
    labels = dict(portal.inspect_container(own.engine_name).labels)
    assert labels["aime.mlc.DS01_MANAGED"] == "true"
    portal.spawn_foreign("copy", labels=labels, devices=(gpu("3"),))
    for _round in range(3):
        assert slots(taken()) == ["3"]
    assert Container.objects.live().count() == 2
    own.refresh_from_db()
    assert (own.origin, own.state) == (Origin.PORTAL, State.RUNNING)


def test_a_foreign_container_on_a_held_device_is_told_to_its_holder(
    portal: FakeEngine, launch: Launch, alice: Person
) -> None:
    own = launch(alice, "own", devices=1)
    uuid = own.assignments.get().device_id
    portal.spawn_foreign("intruder", devices=(uuid,))
    assert taken() == {uuid}
    clash = Event.objects.get(verb="device clash")
    assert clash.owner == alice
    assert clash.evidence == {"device": uuid, "other": "intruder"}
    own.refresh_from_db()
    assert own.state == State.RUNNING


# What it costs, and what it leaves alone


def test_a_look_changes_nothing_when_it_is_dry(portal: FakeEngine, alice: Person) -> None:
    portal.spawn_foreign("a._.200001", labels=mlc_labels("alice", "a"), all_devices=True)
    report: ReconcileReport = reconcile_containers(dry_run=True)
    assert report.adopted == ["a._.200001"]
    assert not Container.objects.exists()
    assert not ForeignUse.objects.exists()


def test_a_container_is_inspected_once_and_written_once(portal: FakeEngine, alice: Person) -> None:
    for number in range(5):
        name = f"a{number}"
        portal.spawn_foreign(f"{name}._.200001", labels=mlc_labels("alice", name), device_count=1)
    reconcile_containers()
    events = Event.objects.count()
    portal.calls.clear()
    reconcile_containers()
    assert portal.calls == ["list_containers"]
    assert Event.objects.count() == events


def test_adopting_sends_the_engine_nothing_but_questions(portal: FakeEngine, alice: Person) -> None:
    portal.spawn_foreign("a._.200001", labels=mlc_labels("alice", "a"), all_devices=True)
    portal.calls.clear()
    reconcile_containers()
    assert set(portal.calls) == {"list_containers", "inspect_container"}


# Commas: `mlc list` would crash on them


def test_commas_that_come_with_an_image_are_gone_from_the_container(
    portal: FakeEngine, launch: Launch, alice: Person
) -> None:
    image = portal.find_image("ds01/demo-python:1")
    image.labels = {"maintainer": "A, B, C", "description": "no comma"}
    row = launch(alice, "plain")
    assert row.state == State.RUNNING
    labels = portal.inspect_container(row.engine_name).labels
    assert not [key for key, value in labels.items() if "," in key + value]
    assert labels["maintainer"] == "A; B; C"
    assert labels["description"] == "no comma"


def test_a_label_with_a_comma_in_its_name_cannot_be_undone_so_the_launch_fails(
    portal: FakeEngine, launch: Launch, alice: Person
) -> None:
    portal.find_image("ds01/demo-python:1").labels = {"a,b": "c"}
    row = launch(alice, "plain")
    assert row.state == State.FAILED
    assert row.error["code"] == ImageRefused.code
    assert "comma" in row.error["message"]
    assert portal.containers == {}


def test_a_foreign_container_with_commas_is_adopted_all_the_same(
    portal: FakeEngine, alice: Person
) -> None:
    portal.spawn_foreign("a._.200001", labels=mlc_labels("alice", "a", maintainer="A, B", x=","))
    assert adopted("a._.200001").owner == alice
