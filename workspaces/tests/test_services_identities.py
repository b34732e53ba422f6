"""Who a person is inside a container: a line in passwd and in group, whatever was there."""

from __future__ import annotations

import os

import pytest

from workspaces.services import identities

pytestmark = pytest.mark.django_db

PASSWD = "root:x:0:0:root:/root:/bin/bash\nubuntu:x:1000:1000::/home/ubuntu:/bin/bash\n"
GROUP = "root:x:0:\nusers:x:100:\nubuntu:x:1000:\n"


@pytest.fixture
def image(portal):
    return portal.inspect_image("ds01/demo-python:1")


def test_a_person_is_added_at_the_end(alice):
    text = identities.merge_passwd(PASSWD, alice)
    assert text == f"{PASSWD}alice:x:200001:200001::/home/alice:/bin/bash\n"
    assert identities.merge_group(GROUP, alice) == f"{GROUP}alice:x:200001:\n"


def test_whoever_had_the_uid_makes_room(alice):
    alice.uid = alice.gid = 1000
    passwd = identities.merge_passwd(PASSWD, alice)
    assert "ubuntu" not in passwd
    assert passwd.endswith("alice:x:1000:1000::/home/alice:/bin/bash\n")
    assert "ubuntu" not in identities.merge_group(GROUP, alice)


def test_whoever_had_the_name_makes_room(alice):
    alice.linux_name = "ubuntu"
    passwd = identities.merge_passwd(PASSWD, alice)
    assert [row for row in passwd.splitlines() if row.startswith("ubuntu:")] == [
        "ubuntu:x:200001:200001::/home/ubuntu:/bin/bash"
    ]
    group = identities.merge_group(GROUP, alice)
    assert [row for row in group.splitlines() if row.startswith("ubuntu:")] == ["ubuntu:x:200001:"]


def test_a_group_of_the_image_with_the_gid_makes_room_for_hers(alice):
    alice.gid = 100
    group = identities.merge_group(GROUP, alice)
    assert "users" not in group
    assert "alice:x:100:\n" in group


def test_root_stays_whatever_comes(alice):
    assert identities.merge_passwd(PASSWD, alice).startswith("root:x:0:0:")
    assert identities.merge_group(GROUP, alice).startswith("root:x:0:")


def test_merging_twice_changes_nothing(alice):
    once = identities.merge_passwd(PASSWD, alice)
    assert identities.merge_passwd(once, alice) == once


@pytest.mark.parametrize("text", ["", "\n\n", "broken\nalso:broken\n", "# a comment\n"])
def test_lines_that_are_none_are_left_out(alice, text):
    assert identities.merge_passwd(text, alice) == (
        "alice:x:200001:200001::/home/alice:/bin/bash\n"
    )


def test_no_last_newline_is_no_trouble(alice):
    text = identities.merge_passwd("root:x:0:0:root:/root:/bin/sh", alice)
    assert len(text.splitlines()) == 2


def test_a_uid_of_a_large_directory_service_makes_no_large_file(portal, image, alice):
    """`useradd` would grow lastlog to hundreds of gigabytes."""
    alice.uid = alice.gid = 1722830498
    files = identities.identity_files(engine=portal, image=image, person=alice)
    assert set(files) == {"/etc/passwd", "/etc/group"}
    assert "alice:x:1722830498:1722830498:" in files["/etc/passwd"]
    assert sum(len(text) for text in files.values()) < 1000


def test_the_image_is_read_once_for_everybody(portal, image, alice, bob):
    for person in (alice, bob, alice):
        identities.identity_mounts(engine=portal, image=image, person=person)
    assert portal.calls.count("read_image_files") == 1


def test_the_files_are_mounted_read_only_and_written_once(portal, image, alice, bob):
    mounts = identities.identity_mounts(engine=portal, image=image, person=alice)
    assert [(mount.target, mount.read_only) for mount in mounts] == [
        ("/etc/passwd", True),
        ("/etc/group", True),
    ]
    before = [os.stat(mount.source).st_ino for mount in mounts]
    again = identities.identity_mounts(engine=portal, image=image, person=alice)
    assert [os.stat(mount.source).st_ino for mount in again] == before
    other = identities.identity_mounts(engine=portal, image=image, person=bob)
    assert {mount.source for mount in other}.isdisjoint(mount.source for mount in mounts)


def test_a_changed_name_reaches_the_next_start(portal, image, alice):
    first = identities.identity_mounts(engine=portal, image=image, person=alice)
    alice.linux_name = "alice2"
    second = identities.identity_mounts(engine=portal, image=image, person=alice)
    assert first[0].source == second[0].source
    with open(second[0].source, encoding="utf-8") as file:
        assert "alice2:x:200001" in file.read()


def test_an_image_without_passwd_gets_one_with_root(portal, alice):
    portal.add_image("scratch/image:1")
    image = portal.inspect_image("scratch/image:1")
    files = identities.identity_files(engine=portal, image=image, person=alice)
    assert files["/etc/passwd"].startswith("root:x:0:0:")
    assert files["/etc/group"].startswith("root:x:0:")


def test_an_image_with_odd_bytes_is_read_all_the_same(portal, alice):
    portal.add_image("odd/image:1", files={"/etc/passwd": b"root:x:0:0:r\xff:/root:/bin/sh\n"})
    image = portal.inspect_image("odd/image:1")
    files = identities.identity_files(engine=portal, image=image, person=alice)
    assert "alice:x:200001" in files["/etc/passwd"]


def test_for_an_engine_elsewhere_the_files_are_put_in(portal, image, alice, settings):
    settings.DOCKER_HOST, settings.DS01_ENGINE = "tcp://elsewhere:2376", "x.Docker"
    assert not identities.is_engine_local()
    entries = identities.identity_entries(engine=portal, image=image, person=alice)
    assert [entry.path for entry in entries] == ["/etc/passwd", "/etc/group", "/home/alice"]
    home = entries[-1]
    assert (home.content, home.uid, home.gid, home.mode) == (None, 200001, 200001, 0o700)
