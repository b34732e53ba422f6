"""Folders: nobody gets out of the workspace, whatever is put in the way."""

from __future__ import annotations

import os
import stat

import pytest

from ds01portal.exceptions import FolderRefused
from workspaces.models import Container, SharedFolder
from workspaces.services import folders

pytestmark = pytest.mark.django_db


@pytest.fixture
def root(tmp_path):
    return tmp_path / "workspaces"


@pytest.fixture
def container(alice):
    return Container.objects.create(
        owner=alice, name="c", engine_name="c._.1", image_reference="x:1"
    )


@pytest.mark.parametrize(
    "text",
    [
        "..",
        "../bob",
        "thesis/../../bob",
        "/etc",
        "//etc",
        "a,b",
        "a:b",
        "a\\b",
        "a\nb",
        "a\tb",
        "a\0b",
        "a/" * 9,
        "x" * 201,
    ],
)
def test_a_folder_outside_of_the_workspace_is_refused_by_its_text(text):
    with pytest.raises(FolderRefused) as refusal:
        folders.workspace_parts(text)
    assert refusal.value.fields["field"] == "workspace"
    assert refusal.value.hint


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ()),
        (" ", ()),
        (".", ()),
        ("thesis", ("thesis",)),
        (" thesis/run 1/ ", ("thesis", "run 1")),
        ("a/./b//c", ("a", "b", "c")),
        ("..hidden/...", ("..hidden", "...")),
        ("Prüfung", ("Prüfung",)),
    ],
)
def test_an_ordinary_folder_is_taken_apart(text, parts):
    assert folders.workspace_parts(text) == parts


def test_the_workspace_is_made_for_its_owner_alone(alice, root):
    path = folders.ensure_workspace(person=alice, subfolder="thesis/run1")

    assert path == str(root / "alice" / "thesis" / "run1")
    for one in ("alice", "alice/thesis", "alice/thesis/run1"):
        facts = (root / one).stat()
        assert (facts.st_uid, facts.st_gid) == (alice.uid, alice.gid)
        assert stat.S_IMODE(facts.st_mode) == 0o750
    assert folders.ensure_workspace(person=alice, subfolder="thesis/run1") == path


def test_a_uid_of_a_large_directory_service_owns_its_folder(alice, root):
    alice.uid = alice.gid = 1722830498
    folders.ensure_workspace(person=alice)
    assert (root / "alice").stat().st_uid == 1722830498


def test_a_link_as_the_workspace_is_refused(alice, root, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (root / "alice").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FolderRefused, match="alice"):
        folders.ensure_workspace(person=alice)


def test_a_link_in_the_middle_is_refused(alice, root, tmp_path):
    folders.ensure_workspace(person=alice)
    target = tmp_path / "elsewhere"
    (target / "run1").mkdir(parents=True)
    os.chown(target, alice.uid, alice.gid)
    (root / "alice" / "thesis").symlink_to(target)
    for subfolder in ("thesis", "thesis/run1", "thesis/new"):
        with pytest.raises(FolderRefused):
            folders.ensure_workspace(person=alice, subfolder=subfolder)
    assert not (target / "new").exists()


def test_a_file_in_the_place_of_a_folder_is_refused(alice, root):
    folders.ensure_workspace(person=alice)
    (root / "alice" / "thesis").write_text("a file")
    with pytest.raises(FolderRefused):
        folders.ensure_workspace(person=alice, subfolder="thesis")


def test_a_folder_of_somebody_else_is_refused(alice, bob, root):
    (root / "alice").mkdir()
    os.chown(root / "alice", bob.uid, bob.gid)
    with pytest.raises(FolderRefused, match="somebody else") as refusal:
        folders.ensure_workspace(person=alice)
    assert refusal.value.fields["owner_uid"] == bob.uid


def test_no_descriptor_is_left_open(alice):
    before = len(os.listdir("/proc/self/fd"))
    folders.ensure_workspace(person=alice, subfolder="a/b")
    with pytest.raises(FolderRefused):
        folders.ensure_workspace(person=alice, subfolder="../x")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_home_on_the_host_holds_the_workspace(alice, tmp_path, settings):
    settings.DS01_WORKSPACE_ROOT = ""
    home = tmp_path / "home"
    home.mkdir()
    alice.home = str(home)
    assert folders.ensure_workspace(person=alice) == str(home / "workspace")

    alice.home = str(tmp_path / "not there")
    expected = tmp_path / "state" / "workspaces" / "alice"
    assert folders.ensure_workspace(person=alice) == str(expected)


def test_a_folder_swapped_between_two_looks_has_another_identity(alice, root, tmp_path):
    path = folders.ensure_workspace(person=alice, subfolder="thesis")
    meant = folders.identify_workspace(person=alice, subfolder="thesis")
    assert folders.identify_folder(path) == meant

    (root / "alice" / "thesis").rename(tmp_path / "moved")
    (root / "alice" / "thesis").mkdir()
    os.chown(root / "alice" / "thesis", alice.uid, alice.gid)
    assert folders.identify_workspace(person=alice, subfolder="thesis") != meant


def test_a_mount_of_another_folder_is_found_out(tmp_path):
    here, other = tmp_path / "here", tmp_path / "other"
    here.mkdir(), other.mkdir()
    pid = os.getpid()  # a process whose root is the host's
    good = folders.identify_folder(str(here))
    wrong = folders.identify_folder(str(other))
    find = folders.find_swapped_mounts
    assert find(pid=pid, mounts={str(here): good}) == []
    assert find(pid=pid, mounts={str(here): wrong}) == [str(here)]
    assert find(pid=pid, mounts={"/not/there": wrong}) == []
    assert find(pid=999_999_999, mounts={str(here): wrong}) == []


def test_a_shared_folder_is_mounted_only_from_below_an_allowed_root(tmp_path):
    good = tmp_path / "shared" / "imagenet"
    good.mkdir(parents=True)
    outside = tmp_path / "private"
    outside.mkdir()
    (tmp_path / "shared" / "link").symlink_to(outside)
    (tmp_path / "shared" / "inner").symlink_to(good)
    (tmp_path / "shared" / "a,b").mkdir()
    (tmp_path / "shared-not").mkdir()

    def check(path):
        folder = SharedFolder(name="x", purpose="data", path=str(path))
        return folders.check_shared_folder(folder=folder)

    assert check(good) == str(good)
    assert check(tmp_path / "shared" / "inner") == str(good)
    bad = ["private", "shared/link", "shared/../private", "shared/none", "shared/a,b", "shared-not"]
    for name in bad:
        with pytest.raises(FolderRefused) as refusal:
            check(tmp_path / name)
        assert refusal.value.fields["field"] == "data"


def test_without_an_allowed_root_nothing_is_shared(tmp_path, settings):
    settings.DS01_SHARED_ROOTS = ["", "/"]
    for path in ("/", "/etc", "/proc"):
        with pytest.raises(FolderRefused):
            folders.check_shared_folder(folder=SharedFolder(name="x", purpose="models", path=path))


def test_a_home_is_the_owners_alone_and_made_once(container, alice):
    path = folders.ensure_home(container=container)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    for one in (path, path / ".bashrc", path / ".profile"):
        assert one.stat().st_uid == alice.uid

    (path / ".bashrc").write_text("mine")
    assert folders.ensure_home(container=container) == path
    assert (path / ".bashrc").read_text() == "mine"


def test_a_home_that_was_half_made_is_made_again(container):
    draft = folders.home_path(container).with_suffix(".new")
    draft.mkdir(parents=True)
    (draft / "half").write_text("")
    assert not (folders.ensure_home(container=container) / "half").exists()
    assert not draft.exists()


def test_removing_a_home_follows_no_link(container, tmp_path):
    folders.remove_home(container=container)
    precious = tmp_path / "precious"
    precious.mkdir()
    folders.home_path(container).parent.mkdir(parents=True)
    folders.home_path(container).symlink_to(precious)
    folders.remove_home(container=container)
    assert precious.is_dir()
