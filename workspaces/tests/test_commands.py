"""Script mode: no prompt, JSON, exit 0 done, 1 refused, 2 trouble with the engine."""

from __future__ import annotations

import json
import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.hashers import check_password
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import IntegrityError
from django.utils import timezone

from catalog.models import Image
from conftest import DEMO_IMAGE, make_person
from ds01portal.engine.fake import FakeEngine
from ds01portal.exceptions import EngineConflict, ImagePullFailed, NotFound
from ds01portal.management.base import find_user, read_input, run_beside_others
from ds01portal.models import Event, Operation, Person
from workspaces.models import Assignment, Container, Device, Machine, SharedFolder
from workspaces.services import carrying

pytestmark = pytest.mark.django_db
IMAGE = ("--image", DEMO_IMAGE)
COUNTED = (Container, Operation, Assignment, Event, Person, Image, SharedFolder)


@dataclass
class Answer:
    """What a command ended with."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def manage(capsys):
    """Run a command as a script does."""

    def run(*args: str) -> Answer:
        code, text = 0, ""
        try:
            call_command(*args)
        except CommandError as error:
            code, text = error.returncode, str(error)
        captured = capsys.readouterr()
        return Answer(code, captured.out, text + captured.err)

    return run


@pytest.fixture
def beside(monkeypatch):
    """Have the worker carry out what is due at the first look of a command that waits."""

    def carry_out(_seconds: float) -> None:
        carrying.carry_out_due()

    monkeypatch.setattr("ds01portal.management.base.time.sleep", carry_out)


# One container's life


def test_a_container_is_created_and_the_worker_carries_it_out(manage, portal, alice):
    asked = manage("create_container", "alice", "thesis", *IMAGE, "--gpus", "1", "--json")

    assert asked.code == 0
    assert asked.json["state"] == "launching"
    assert asked.json["error"] is None
    assert asked.json["operation"]["kind"] == "launch"

    assert manage("run_worker", "--once").out == "1 operation carried out.\n"
    shown = manage("show_container", "alice", "thesis", "--json").json
    assert shown["state"] == "running"
    assert shown["engine_name"] == f"thesis._.{alice.uid}"
    assert shown["engine_id"]
    assert shown["image"] == DEMO_IMAGE
    assert [device["label"] for device in shown["devices"]] == ["GPU 0"]
    assert [event["verb"] for event in shown["events"]] == ["reserve", "launch", "launched"]
    assert {event["actor"] for event in shown["events"]} == {None}


def test_waiting_gives_the_end_whoever_carries_it_out(manage, portal, alice, beside):
    def state(*args):
        answer = manage(*args, "alice", "thesis", "--wait", "--json")
        assert answer.code == 0, answer.err
        assert answer.json["operation"]["state"] == "done"
        return answer.json["state"]

    created = manage("create_container", "alice", "thesis", *IMAGE, "--cpu-only", "--wait")
    assert f"thesis._.{alice.uid}: running, no GPU" in created.out
    assert state("stop_container") == "stopped"
    assert state("start_container") == "running"
    assert state("pause_container") == "paused"
    assert state("resume_container") == "running"
    assert state("restart_container") == "running"
    assert state("remove_container") == "removed"
    assert portal.list_containers() == []


def test_everything_about_a_launch_can_be_said(manage, portal, alice, beside, tmp_path):
    for name in ("sets", "weights"):
        (tmp_path / "shared" / name).mkdir(parents=True)
    SharedFolder.objects.create(name="sets", purpose="data", path=str(tmp_path / "shared/sets"))
    SharedFolder.objects.create(
        name="weights", purpose="models", path=str(tmp_path / "shared/weights")
    )
    device = Device.objects.free().order_by("index")[2]

    answer = manage(
        *("create_container", str(alice.uid), "thesis", *IMAGE, "--device", device.uuid),
        *("--cpus", "1.5", "--memory", "512m", "--data", "sets", "--models", "weights"),
        *("--workspace", "run/1", "--wait", "--timeout", "5m", "--json"),
    )

    assert answer.code == 0, answer.err
    found = answer.json
    assert (found["spec"]["cpus"], found["spec"]["memory"]) == (1.5, 512 * 1024**2)
    assert [one["uuid"] for one in found["devices"]] == [device.uuid]
    mounts = {
        mount.target: mount.source
        for mount in portal.inspect_container(found["engine_name"]).mounts
    }
    assert mounts["/data"] == str(tmp_path / "shared/sets")
    assert mounts["/models"] == str(tmp_path / "shared/weights")
    assert mounts["/workspace"].endswith("/alice/run/1")


def test_a_framework_is_looked_up_with_version_and_architecture(manage, portal, alice):
    Image.objects.create(
        kind="catalog",
        framework="Pytorch",
        framework_slug="pytorch",
        version="2.7.1",
        architectures=";CUDA_AMPERE;",
        reference="lab/pytorch-2.7.1",
    )
    portal.add_image("lab/pytorch-2.7.1")

    answer = manage(
        *("create_container", "alice", "thesis", "--framework", "torch", "--version", "2.7.1"),
        *("--arch", "CUDA_AMPERE", "--json"),
    )

    assert answer.code == 0, answer.err
    assert (answer.json["image"], answer.json["version"]) == ("lab/pytorch-2.7.1", "2.7.1")
    assert Container.objects.get().architecture == "CUDA_AMPERE"


def test_a_framework_without_a_row_takes_the_fallback(manage, portal, alice, settings):
    settings.DS01_CATALOG_FALLBACKS = {"pytorch": "pytorch/pytorch:2.5.1-runtime"}

    answer = manage("create_container", "alice", "thesis", "--framework", "pytorch", "--json")

    assert answer.code == 0, answer.err
    assert answer.json["image"] == "pytorch/pytorch:2.5.1-runtime"


def test_without_a_word_about_gpus_there_is_none_and_it_says_so(manage, portal, alice):
    assert "CPU only" in manage("create_container", "alice", "one", *IMAGE).out
    assert "CPU only" not in manage("create_container", "alice", "two", *IMAGE, "--cpu-only").out
    assert not Assignment.objects.exists()


def test_asking_twice_for_the_same_verb_does_no_harm(manage, portal, alice, launch):
    launch(alice, "thesis")

    first = manage("stop_container", "alice", "thesis", "--json")
    second = manage("stop_container", "alice", "thesis", "--json")

    assert (first.code, second.code) == (0, 0)
    assert first.json["operation"]["id"] == second.json["operation"]["id"]


# Pre-flight


def test_a_dry_run_prints_all_findings_and_makes_nothing(manage, portal, alice):
    answer = manage("create_container", "alice", "thesis", *IMAGE, "--gpus", "2", "--dry-run")
    as_json = manage("create_container", "alice", "thesis", *IMAGE, "--dry-run", "--json")

    assert (answer.code, as_json.code) == (0, 0)
    assert "They are simulated." in answer.out
    assert as_json.json["allowed"] is True
    assert as_json.json["error"] is None
    checks = [finding["check"] for finding in as_json.json["findings"]]
    assert checks == [
        *("name", "containers", "image", "size", "devices", "folders", "engine", "disk")
    ]
    assert not Container.objects.exists()


def test_a_dry_run_names_every_refusal_at_once(manage, portal, alice):
    answer = manage(
        *("create_container", "alice", "a,b", "--framework", "nosuch", "--gpus", "many"),
        *("--cpus", "fast", "--data", "../etc", "--dry-run", "--json"),
    )

    refused = {one["check"]: one["error"] for one in answer.json["findings"] if one["error"]}
    assert answer.code == 1
    assert answer.json["allowed"] is False
    assert set(refused) == {"name", "image", "size", "devices", "folders"}
    assert refused["folders"]["code"] == "folder-refused"
    assert answer.json["error"] == refused["name"]


# What is refused: exit 1, a code, and nothing changed


@pytest.fixture
def inhabited(portal, alice, bob, launch, tmp_path):
    """Alice has a running, a stopped and a busy container; Bob has one, and a folder."""
    launch(alice, "running")
    stopped = launch(alice, "stopped")
    Container.objects.filter(pk=stopped.pk).update(state="stopped", stopped_at=timezone.now())
    launch(bob, "bobs")
    private = SharedFolder.objects.create(name="private", purpose="data", path=str(tmp_path))
    private.groups.add(make_person("dora", "faculty", 200004).groups.get())
    return portal


CREATE = ("create_container", "alice", "new")
BAD_INPUT = {
    # people and names
    "unknown user": (("create_container", "nobody", "new", *IMAGE), "not-found"),
    "unknown uid": (("create_container", "4294967294", "new", *IMAGE), "not-found"),
    "uid too long": (("create_container", "9" * 40, "new", *IMAGE), "not-found"),
    "user with dots": (("create_container", "../alice", "new", *IMAGE), "not-found"),
    "empty user": (("create_container", "", "new", *IMAGE), "not-found"),
    "empty name": (("create_container", "alice", "", *IMAGE), "invalid-input"),
    "name with comma": (("create_container", "alice", "a,b", *IMAGE), "invalid-input"),
    "name with dots": (("create_container", "alice", "../up", *IMAGE), "invalid-input"),
    "name with space": (("create_container", "alice", "a b", *IMAGE), "invalid-input"),
    "name with suffix": (("create_container", "alice", "x._.0", *IMAGE), "invalid-input"),
    "name with umlaut": (("create_container", "alice", "übung", *IMAGE), "invalid-input"),
    "name with newline": (("create_container", "alice", "a\n", *IMAGE), "invalid-input"),
    "name too long": (("create_container", "alice", "x" * 61, *IMAGE), "invalid-input"),
    "name taken": (("create_container", "alice", "running", *IMAGE), "invalid-input"),
    # images
    "no image": (CREATE, "invalid-input"),
    "image and framework": ((*CREATE, *IMAGE, "--framework", "pytorch"), "invalid-input"),
    "image and version": ((*CREATE, *IMAGE, "--version", "2"), "invalid-input"),
    "image and arch": ((*CREATE, *IMAGE, "--arch", "CUDA_ADA"), "invalid-input"),
    "unknown image": ((*CREATE, "--image", "evil/miner:1"), "image-refused"),
    "image is a path": ((*CREATE, "--image", "../../etc/passwd"), "image-refused"),
    "unknown framework": ((*CREATE, "--framework", "nosuch"), "image-refused"),
    "unknown version": ((*CREATE, "--framework", "pytorch", "--version", "9"), "image-refused"),
    "unknown arch": ((*CREATE, "--framework", "pytorch", "--arch", "ABACUS"), "image-refused"),
    # devices
    "negative gpus": ((*CREATE, *IMAGE, "--gpus", "-1"), "invalid-input"),
    "gpus in words": ((*CREATE, *IMAGE, "--gpus", "two"), "invalid-input"),
    "half a gpu": ((*CREATE, *IMAGE, "--gpus", "0.5"), "invalid-input"),
    "all gpus": ((*CREATE, *IMAGE, "--gpus", "all"), "invalid-input"),
    "absurdly many gpus": ((*CREATE, *IMAGE, "--gpus", "9" * 30), "invalid-input"),
    "more gpus than the limit": ((*CREATE, *IMAGE, "--gpus", "3"), "quota-exceeded"),
    "gpus and cpu only": ((*CREATE, *IMAGE, "--gpus", "1", "--cpu-only"), "invalid-input"),
    "unknown device": ((*CREATE, *IMAGE, "--device", "GPU-nope"), "no-free-device"),
    "device twice": ((*CREATE, *IMAGE, "--device", "GPU-1", "GPU-1"), "invalid-input"),
    "count and names differ": (
        (*CREATE, *IMAGE, "--gpus", "2", "--device", "GPU-1"),
        "invalid-input",
    ),
    # sizes
    "no cpus": ((*CREATE, *IMAGE, "--cpus", "0"), "invalid-input"),
    "negative cpus": ((*CREATE, *IMAGE, "--cpus", "-2"), "invalid-input"),
    "cpus not a number": ((*CREATE, *IMAGE, "--cpus", "nan"), "invalid-input"),
    "unlimited cpus": ((*CREATE, *IMAGE, "--cpus", "unlimited"), "invalid-input"),
    "cpus above the limit": ((*CREATE, *IMAGE, "--cpus", "33"), "quota-exceeded"),
    "memory without sense": ((*CREATE, *IMAGE, "--memory", "lots"), "invalid-input"),
    "memory too small": ((*CREATE, *IMAGE, "--memory", "1m"), "invalid-input"),
    "memory above the limit": ((*CREATE, *IMAGE, "--memory", "64g"), "quota-exceeded"),
    "memory overflows": ((*CREATE, *IMAGE, "--memory", "9" * 20 + "t"), "invalid-input"),
    # folders
    "workspace goes up": ((*CREATE, *IMAGE, "--workspace", "../bob"), "folder-refused"),
    "workspace is absolute": ((*CREATE, *IMAGE, "--workspace", "/etc"), "folder-refused"),
    "workspace with comma": ((*CREATE, *IMAGE, "--workspace", "a,b"), "folder-refused"),
    "workspace with colon": ((*CREATE, *IMAGE, "--workspace", "a:/etc"), "folder-refused"),
    "unknown data": ((*CREATE, *IMAGE, "--data", "nosuch"), "folder-refused"),
    "data is a path": ((*CREATE, *IMAGE, "--data", "/etc"), "folder-refused"),
    "data of another group": ((*CREATE, *IMAGE, "--data", "private"), "folder-refused"),
    "data as models": ((*CREATE, *IMAGE, "--models", "private"), "folder-refused"),
    # waiting
    "timeout without wait": ((*CREATE, *IMAGE, "--timeout", "5"), "invalid-input"),
    "timeout not a time": ((*CREATE, *IMAGE, "--wait", "--timeout", "soon"), "invalid-input"),
    # verbs
    "somebody else's": (("stop_container", "alice", "bobs"), "not-found"),
    "somebody else's shown": (("show_container", "alice", "bobs"), "not-found"),
    "no such container": (("remove_container", "alice", "nosuch"), "not-found"),
    "name on the engine": (("stop_container", "alice", "running._.200001"), "not-found"),
    "start what runs": (("start_container", "alice", "running"), "illegal-transition"),
    "resume what runs": (("resume_container", "alice", "running"), "illegal-transition"),
    "stop what is stopped": (("stop_container", "alice", "stopped"), "illegal-transition"),
    "pause what is stopped": (("pause_container", "alice", "stopped"), "illegal-transition"),
    "restart what is stopped": (("restart_container", "alice", "stopped"), "illegal-transition"),
    "list of nobody": (("list_containers", "--user", "nobody"), "not-found"),
}


@pytest.mark.parametrize(("args", "code"), BAD_INPUT.values(), ids=BAD_INPUT.keys())
def test_bad_input_is_refused_and_changes_nothing(manage, inhabited, settings, args, code):
    settings.DS01_CATALOG_FALLBACKS = {}
    before = [model.objects.count() for model in COUNTED]
    states = list(Container.objects.order_by("pk").values_list("pk", "state"))

    answer = manage(*args, "--json")
    for_people = manage(*args)

    assert answer.code == for_people.code == 1
    assert answer.json["error"]["code"] == code
    assert answer.json["error"]["message"]
    assert for_people.out == "" or "CPU only" in for_people.out
    assert answer.json["error"]["message"] in for_people.err
    assert [model.objects.count() for model in COUNTED] == before
    assert list(Container.objects.order_by("pk").values_list("pk", "state")) == states


def test_the_table_of_bad_input_is_long_enough():
    assert len(BAD_INPUT) >= 60


def test_a_refusal_tells_its_numbers(manage, portal, alice):
    fields = manage(*CREATE, *IMAGE, "--cpus", "33", "--json").json["error"]["fields"]

    assert (fields["resource"], fields["limit"], fields["requested"]) == ("cpus", 32, 33)


@pytest.mark.parametrize(
    "argv",
    [("alice",), ("alice", "x", "--nosuch"), ("alice", "x", "--memory", "-5g")],
    ids=["missing name", "unknown option", "option for a value"],
)
def test_wrong_usage_is_a_refusal_and_not_engine_trouble(capsys, portal, alice, argv):
    from workspaces.management.commands.create_container import Command

    with pytest.raises(SystemExit) as stopped:
        Command().run_from_argv(["manage.py", "create_container", *argv, "--json"])

    captured = capsys.readouterr()
    assert stopped.value.code == 1
    assert json.loads(captured.out)["error"]["fields"]["field"] == "usage"
    assert "CommandError" in captured.err


def test_a_refusal_through_the_command_line_exits_with_its_code(capsys, portal, alice, monkeypatch):
    from workspaces.management.commands.stop_container import Command

    # A command closes its connections when it ends, and the test's own is one of them.
    monkeypatch.setattr("django.core.management.base.connections", SimpleNamespace(close_all=list))
    argv = ["manage.py", "stop_container", "alice", "nosuch", "--skip-checks"]
    with pytest.raises(SystemExit) as stopped:
        Command().run_from_argv(argv)
    assert stopped.value.code == 1
    assert "There is no container named nosuch" in capsys.readouterr().err
    with pytest.raises(CommandError):
        Command().run_from_argv([*argv, "--traceback"])


# Trouble


def test_trouble_with_the_engine_is_exit_2(manage, portal, alice, beside):
    portal.fail_next("create_container", EngineConflict("The name is taken.", cause="planned"))

    answer = manage("create_container", "alice", "thesis", *IMAGE, "--wait", "--json")

    assert answer.code == 2
    assert answer.json["state"] == "failed"
    assert answer.json["error"]["code"] == "engine-conflict"
    assert answer.json["operation"]["state"] == "failed"


def test_a_failed_pull_is_the_image_s_fault_and_exit_1(manage, portal, alice, beside):
    portal.images.clear()
    Image.objects.update(kind="catalog", architectures=";CUDA_ADA;")
    portal.fail_next("pull_image", ImagePullFailed("There is no such image."))

    answer = manage("create_container", "alice", "thesis", *IMAGE, "--wait", "--json")

    assert (answer.code, answer.json["error"]["family"]) == (1, "image")


def test_waiting_ends_in_time_and_cancels_nothing(manage, portal, alice):
    answer = manage(
        *("create_container", "alice", "thesis", *IMAGE, "--wait", "--timeout", "0.2s", "--json")
    )

    assert answer.code == 2
    assert answer.json["error"]["code"] == "engine-timeout"
    assert answer.json["state"] == "launching"
    assert Operation.objects.get().is_live


def test_a_cancelled_launch_says_so(manage, portal, alice, monkeypatch):
    def cancel(_seconds):
        Operation.objects.update(cancel_requested=True)
        carrying.carry_out_due()

    monkeypatch.setattr("ds01portal.management.base.time.sleep", cancel)

    answer = manage("create_container", "alice", "thesis", *IMAGE, "--wait", "--json")

    assert (answer.code, answer.json["error"]["code"]) == (1, "cancelled")


# Lists


def test_containers_are_listed_by_owner_with_devices(manage, portal, alice, bob, launch):
    launch(alice, "one", devices=1)
    launch(bob, "two")
    Container.objects.filter(pk=launch(bob, "gone").pk).update(state="removed")

    everything = manage("list_containers", "--json").json
    table = manage("list_containers").out

    assert [row["name"] for row in everything["containers"]] == ["one", "two"]
    assert everything["engine"] == {"reachable": True, "unreachable_since": None}
    assert everything["containers"][0]["devices"][0]["simulated"] is True
    assert "GPU 0 (simulated)" in table
    assert [
        row["name"]
        for row in manage("list_containers", "--user", "bob", "--json").json["containers"]
    ] == ["two"]
    assert len(manage("list_containers", "--all", "--json").json["containers"]) == 3


def test_lists_need_a_constant_number_of_queries(
    manage, portal, alice, charlie, launch, django_assert_max_num_queries
):
    for number in range(3):
        launch(charlie, f"c{number}", devices=1)
    launch(alice, "a")
    with django_assert_max_num_queries(4):
        manage("list_containers", "--json")


def test_lists_say_since_when_the_engine_is_away(manage, portal, alice, launch):
    launch(alice, "one")
    since = timezone.now()
    Machine.objects.update(reachable=False, unreachable_since=since)

    answer = manage("list_containers")

    assert answer.code == 0
    assert f"has not answered since {since.isoformat()}" in answer.err
    assert "running" in answer.out


def test_a_container_is_shown_with_its_history(manage, portal, alice, launch):
    launch(alice, "one", devices=1)

    text = manage("show_container", "alice", "one").out

    for words in (f"one._.{alice.uid}", DEMO_IMAGE, "workspace", "launched (alice)"):
        assert words in text


# From cron


def test_sync_gpus_reports_and_a_trial_changes_nothing(manage, fake_engine, settings):
    settings.DS01_GPUS = "simulated:2xA100-40GB"

    trial = manage("sync_gpus", "--dry-run", "--json").json
    assert (trial["dry_run"], len(trial["added"])) == (True, 2)
    assert not Device.objects.exists()

    assert "added       2" in manage("sync_gpus").out
    settings.DS01_GPUS = "simulated:1xA100-40GB"
    assert "gone        1" in manage("sync_gpus", "--dry-run").out
    settings.DS01_GPUS = "simulated:1xH100-80GB:3g.40gb"
    assert "split into MIG instances" in manage("sync_gpus").out


def test_sync_gpus_with_an_unreadable_inventory_is_exit_2(manage, simulated_devices, monkeypatch):
    from workspaces.gpus.base import InventoryError
    from workspaces.services import devices

    class Broken:
        def read(self):
            raise InventoryError("driver is being reloaded")

    monkeypatch.setattr(devices, "get_inventory", lambda _setting: Broken())
    before = list(Device.objects.order_by("pk").values())

    assert manage("sync_gpus", "--json").code == 2
    assert list(Device.objects.order_by("pk").values()) == before


def test_reconcile_reports_and_a_trial_changes_nothing(manage, portal: FakeEngine, alice, launch):
    container = launch(alice, "one")
    portal.exit_container(container.engine_name, 3)
    portal.spawn_foreign("other._.200001", labels={"aime.mlc": "alice"})

    trial = manage("reconcile", "--dry-run", "--json").json
    assert trial["changed"] == [container.engine_name]
    assert trial["adopted"] == ["other._.200001"]
    container.refresh_from_db()
    assert (container.state, Container.objects.count()) == ("running", 1)
    assert "Trial run" in manage("reconcile", "--dry-run").out

    done = manage("reconcile")
    container.refresh_from_db()
    assert "changed     1" in done.out
    assert container.state == "stopped"
    assert manage("show_container", "alice", "other", "--json").json["origin"] == "mlc"


def test_reconcile_without_an_engine_is_exit_2_and_changes_nothing(manage, portal, alice, launch):
    container = launch(alice, "one", devices=1)
    portal.go_down()

    answer = manage("reconcile", "--json")

    container.refresh_from_db()
    assert (answer.code, answer.json["error"]["code"]) == (2, "engine-unreachable")
    assert container.state == "running"
    assert Assignment.objects.live().count() == 1


def test_a_run_that_meets_its_twin_looks_once_more():
    answers = iter([IntegrityError("twin"), "done"])

    def act():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert run_beside_others(act) == "done"


# The worker


def test_run_worker_once_carries_out_all_that_is_due(manage, portal, alice, ask):
    ask(alice, "one")
    ask(alice, "two")

    answer = manage("run_worker", "--once", "--json")

    assert answer.json == {"carried_out": 2, "released": 0}
    assert set(Container.objects.values_list("state", flat=True)) == {"running"}
    assert manage("run_worker", "--once").out == "0 operations carried out.\n"


def test_run_worker_once_without_an_engine_is_exit_2_and_loses_nothing(manage, portal, alice, ask):
    ask(alice, "one", devices=1)
    portal.go_down()

    assert manage("run_worker", "--once").code == 2
    assert Operation.objects.get().is_live

    portal.come_up()
    Operation.objects.update(not_before=timezone.now())
    assert manage("run_worker", "--once").code == 0
    assert Container.objects.get().state == "running"


def test_run_worker_ends_at_a_signal(manage, portal, monkeypatch):
    stopped = threading.Event()

    class Stand:
        def stop(self):
            stopped.set()

        def run(self):
            signal.raise_signal(signal.SIGTERM)
            assert stopped.wait(5)

    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.setattr("workspaces.management.commands.run_worker.Worker", Stand)
    try:
        assert manage("run_worker").code == 0
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
    assert stopped.is_set()


# The demonstration


@pytest.fixture
def debugging(settings):
    settings.DEBUG = True


def test_demo_people_are_made_once_and_nothing_is_overwritten(manage, fake_engine, debugging, db):
    first = manage("create_demo", "--json").json
    Person.objects.filter(username="alice").update(email="mine@example.org")
    again = manage("create_demo", "--json").json

    assert first["password"] == again["password"]
    assert first["password"].startswith("demo-")
    assert [one["created"] for one in first["sign_ins"]] == [True] * 3
    assert [one["created"] for one in again["sign_ins"]] == [False] * 3
    assert Person.objects.get(username="alice").email == "mine@example.org"
    groups = {
        person.username: person.groups.get().name for person in Person.objects.order_by("username")
    }
    assert groups == {"admin": "admin", "alice": "student", "bob": "researcher"}
    assert Person.objects.get(username="admin").is_superuser
    assert check_password(first["password"], Person.objects.get(username="bob").password)


def test_the_demo_says_whose_password_is_their_own(manage, fake_engine, debugging, alice):
    out = manage("create_demo").out

    assert "alice    student  (has a password of their own)" in out
    assert "bob      researcher\n" in out
    assert alice.check_password("correct horse battery")


def test_the_demo_image_is_offered_when_it_is_here(manage, fake_engine, debugging, db):
    assert f"Image: {DEMO_IMAGE}" in manage("create_demo").out
    image = Image.objects.get(reference=DEMO_IMAGE)
    assert image.is_launchable

    Image.objects.update(visible=False)
    assert manage("create_demo", "--json").json["image"] == ""
    assert not Image.objects.get().visible


def test_the_demo_goes_on_without_an_image_or_an_engine(manage, fake_engine, debugging, db):
    fake_engine.images.clear()
    assert manage("create_demo", "--json").json["image"] == ""
    fake_engine.go_down()
    assert manage("create_demo", "--json").json["image"] == ""


def test_the_demo_s_password_is_for_its_owner_s_eyes(manage, fake_engine, debugging, db, settings):
    manage("create_demo")

    assert (Path(settings.DS01_STATE_DIR) / "demo.json").stat().st_mode & 0o077 == 0


def test_there_is_no_demo_in_production(manage, fake_engine, db, settings):
    settings.DEBUG = False

    answer = manage("create_demo", "--json")

    assert (answer.code, answer.json["error"]["code"]) == (1, "refused")
    assert not Person.objects.exists()


# What commands share


def test_people_are_found_by_username_login_or_uid(alice, bob):
    Person.objects.filter(pk=bob.pk).update(system_login="b.other@example.org")

    assert find_user("alice") == alice
    assert find_user(str(alice.uid)) == alice
    assert find_user("b.other@example.org") == bob
    with pytest.raises(NotFound, match="There is no person “²”"):
        find_user("²")


def test_a_username_of_digits_counts_before_a_uid(alice):
    digits = make_person("200001", "student", 200005)

    assert find_user("200001") == digits


def test_files_that_cannot_be_read_are_refused(manage, tmp_path, db):
    answer = manage("import_limits", str(tmp_path / "missing.yaml"), "--json")
    assert (answer.code, answer.json["error"]["code"]) == (1, "invalid-input")

    large = tmp_path / "large"
    large.write_bytes(b"x" * (4 * 1024**2 + 1))
    with pytest.raises(Exception, match="larger than"):
        read_input(str(large))
