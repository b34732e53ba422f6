"""Pre-flight: everything that speaks for and against a launch, all at once."""

from __future__ import annotations

import pytest

from ds01portal.exceptions import InvalidInput, QuotaExceeded
from ds01portal.limits import UNLIMITED
from ds01portal.services.quotas import set_limits
from workspaces.models import Assignment, Container, Device, Machine, SharedFolder
from workspaces.services import devices, launch_images, preflight, requests

pytestmark = pytest.mark.django_db

CHECKS = ["name", "containers", "image", "size", "devices", "folders", "engine", "disk"]
GB = 1024**3


@pytest.fixture
def wish(demo_image):
    def make(owner, name="thesis", **values):
        fields = {**launch_images.image_fields(demo_image), **values}
        return requests.LaunchRequest(owner=owner, name=name, **fields)

    return make


@pytest.fixture
def find(portal, alice, wish):
    """Return the finding of one check for Alice's wish."""

    def one(check, **values):
        found = {one.check: one for one in preflight.check_launch(request=wish(alice, **values))}
        return found[check]

    return one


def test_a_good_wish_has_a_line_for_each_check(portal, alice, wish):
    found = preflight.check_launch(request=wish(alice))
    assert [one.check for one in found] == CHECKS
    assert {one.level for one in found} == {"ok"} | (
        {"warning"} if preflight.free_disk_bytes(Machine.current()) is None else set()
    )
    assert all(one.message for one in found)
    assert not Container.objects.exists()
    assert not Assignment.objects.exists()


def test_all_refusals_come_at_once(portal, alice, wish):
    found = preflight.check_launch(
        request=wish(alice, name="a b", cpus=1000, devices=9, workspace="../bob")
    )
    refused = {one.check: one for one in found if one.level == "refused"}
    assert set(refused) == {"name", "size", "devices", "folders"}
    for one in refused.values():
        assert one.hint
        assert one.as_dict()["error"]["message"] == one.message


@pytest.mark.parametrize(
    "name", ["", "a b", "a.b", "ä", "x" * 61, "a/b", "a#b", "-x", "_x", "--privileged", "a\n"]
)
def test_a_name_that_docker_or_mlc_would_not_take_is_refused(find, name):
    finding = find("name", name=name)
    assert finding.level == "refused"
    assert finding.error.fields["field"] == "name"


@pytest.mark.parametrize("name", ["a", "0", "thesis-bert_2", "x" * 60, "A-", "a__"])
def test_an_ordinary_name_is_fine(find, name):
    assert find("name", name=name).level == "ok"


def test_a_name_in_use_is_refused_for_its_owner_only(portal, alice, bob, launch, wish, find):
    launch(alice, "thesis")
    assert "already" in find("name").message
    (bobs, *_) = preflight.check_launch(request=wish(bob))
    assert bobs.level == "ok"


def test_the_number_of_containers_is_counted(find, alice, launch):
    assert find("containers").message == "Container 1 of 3."
    launch(alice, "a")
    assert find("containers").message == "Container 2 of 3."
    set_limits(subject=alice, values={"containers": 1}, actor=None)
    assert find("containers").level == "refused"
    assert find("containers").error.fields["used"] == 1
    set_limits(subject=alice, values={"containers": UNLIMITED}, actor=None)
    assert find("containers").message == "Container 2 of any number."


def test_an_image_that_is_not_here_yet_is_a_warning(find, demo_image, portal):
    demo_image.kind, demo_image.architectures = "catalog", ";CUDA_ADA;"
    demo_image.reference = "lab/else:1"
    demo_image.save()
    finding = find("image", image=demo_image, reference="lab/else:1")
    assert finding.level == "warning"
    assert "pulled" in finding.message


def test_a_local_image_that_is_gone_is_refused(find, portal):
    portal.images.clear()
    assert find("image").level == "refused"
    assert "not on this machine" in find("image").message


def test_a_retired_image_is_refused(find, demo_image):
    from catalog.services.images import retire_image

    retire_image(image=demo_image, actor=None)
    demo_image.refresh_from_db()
    assert find("image", image=demo_image).level == "refused"


def test_an_image_for_other_gpus_is_refused(find, demo_image):
    demo_image.kind, demo_image.architectures = "catalog", ";ROCM6;"
    demo_image.save()
    finding = find("image", image=demo_image)
    assert finding.level == "refused"
    assert finding.error.family == "image"


def test_an_engine_that_is_away_is_a_warning_and_the_launch_waits(find, portal):
    portal.go_down()
    assert find("engine").level == "warning"
    assert "waits" in find("engine").hint
    assert find("image").level == "warning"
    portal.come_up()
    Machine.objects.update(worker_seen_at=None)
    assert find("engine").message == "No worker is running."


def test_the_size_is_what_the_limit_gives(find):
    assert find("size").message.startswith("32 cores and 32")
    assert find("size", cpus=2.5, memory=4 * GB).message.startswith("2.5 cores and 4")


def test_more_than_the_limit_is_refused_with_the_numbers(find):
    finding = find("size", cpus=33)
    assert finding.level == "refused"
    assert (finding.error.fields["limit"], finding.error.fields["requested"]) == (32.0, 33)
    assert find("size", memory=33 * GB).error.fields["resource"] == "memory"


def test_more_than_the_machine_has_is_clamped_and_said(find, alice):
    Machine.objects.update(cpus=8, memory_bytes=16 * GB)
    finding = find("size")
    assert finding.level == "warning"
    assert "this machine has 8" in finding.message
    size, notes = requests.choose_size(
        request=requests.LaunchRequest(owner=alice, name="x", image=None, reference="x", cpus=20),
        limits=preflight.resolve_limits(person=alice),
        machine=Machine.current(),
    )
    assert (size["cpus"], size["memory"]) == (8, 16 * GB)
    assert len(notes) == 2


@pytest.mark.parametrize(
    "wishes",
    [
        {"cpus": 0},
        {"cpus": -1},
        {"cpus": 0.004},
        {"cpus": float("nan")},
        {"cpus": float("inf")},
        {"memory": 0},
        {"memory": 1024},
        {"memory": -5},
    ],
)
def test_a_size_that_makes_no_sense_is_refused(find, wishes):
    """Zero cores, also by rounding, would mean all of them to Docker."""
    assert find("size", **wishes).level == "refused"


def test_without_bounds_and_without_a_known_machine_a_size_must_be_named(find, alice):
    set_limits(subject=alice, values={"cpus": UNLIMITED, "memory": UNLIMITED}, actor=None)
    Machine.objects.update(cpus=0, memory_bytes=0)
    assert find("size").level == "refused"
    assert find("size", cpus=2, memory=GB).level == "ok"


def test_everything_at_once_is_bounded_over_all_containers(find, alice, launch):
    set_limits(subject=alice, values={"total_cpus": 40, "total_memory": 40 * GB}, actor=None)
    launch(alice, "a", cpus=30, memory=8 * GB)
    assert find("size", cpus=11, memory=GB).error.fields["resource"] == "total_cpus"
    assert find("size", cpus=10, memory=33 * GB).error.fields["resource"] == "memory"
    assert find("size", cpus=10, memory=32 * GB).level == "ok"


def test_swap_shm_and_pids_follow_the_limits(alice):
    def size(**values):
        set_limits(subject=alice, values=values, actor=None)
        request = requests.LaunchRequest(
            owner=alice, name="x", image=None, reference="x", memory=GB
        )
        limits = preflight.resolve_limits(person=alice)
        return requests.choose_size(request=request, limits=limits, machine=Machine(cpus=64))[0]

    assert size(swap=UNLIMITED)["swap"] == -1
    assert size(swap=5 * GB)["swap"] == 5 * GB
    assert size(shm=5 * GB)["shm"] == GB
    assert size(shm=0)["shm"] == 1024**2
    assert size(pids=UNLIMITED)["pids"] == -1
    assert size(pids=0)["pids"] == 16


def test_devices_are_counted_and_simulated_ones_said(find, alice):
    assert find("devices").message == "No GPU."
    finding = find("devices", devices=2)
    assert finding.level == "warning"
    assert finding.message == "2 of 6 free devices. They are simulated."
    Device.objects.update(simulated=False)
    assert find("devices", devices=2).level == "ok"
    assert find("devices", devices=-1).level == "refused"
    assert find("devices", devices=3).error.code == "quota-exceeded"


def test_a_full_machine_and_a_device_that_is_taken_are_told_apart(find, portal, charlie, launch):
    taken = launch(charlie, "c", devices=1).spec["devices"][0]
    finding = find("devices", device_uuids=(taken,))
    assert "picked" in finding.message
    Device.objects.update(drained=True)
    finding = find("devices", devices=1)
    assert finding.error.fields == {"free": 0, "requested": 1}


def test_folders_of_others_and_folders_that_are_none_are_refused(find, alice, tmp_path):
    from django.contrib.auth.models import Group

    (tmp_path / "shared" / "data").mkdir(parents=True)
    folder = SharedFolder.objects.create(
        name="data", purpose="data", path=str(tmp_path / "shared" / "data")
    )
    assert find("folders", data=folder, workspace="thesis/a").message == (
        "Your workspace/thesis/a is mounted at /workspace."
    )
    folder.groups.add(Group.objects.get(name="faculty"))
    assert "not offered to you" in find("folders", data=folder).message
    folder.groups.clear()
    folder.path = "/etc"
    folder.save()
    assert find("folders", data=folder).level == "refused"
    SharedFolder.objects.update(enabled=False)
    assert "not offered" in find("folders", data=folder).message


def test_below_the_disk_floor_nothing_is_launched(find, settings, tmp_path, ask, alice):
    Machine.objects.update(engine_root=str(tmp_path))
    assert find("disk").level == "ok"
    settings.DS01_DISK_FLOOR = 2**60
    finding = find("disk")
    assert finding.level == "refused"
    assert finding.error.fields["floor"] == 2**60
    with pytest.raises(type(finding.error)):
        ask(alice)
    Machine.objects.update(engine_root=str(tmp_path / "elsewhere"))
    assert find("disk").level == "warning"


def test_the_first_refusal_stops_the_launch_and_writes_nothing(portal, alice, ask):
    with pytest.raises(InvalidInput):
        ask(alice, "a b", cpus=1000)
    with pytest.raises(QuotaExceeded):
        ask(alice, "good", cpus=1000)
    assert not Container.objects.exists()
    assert devices.read_device_usage([]) == {}
