"""Admin of the containers' app: verbs with one message each, forced ways out, trouble first."""

from __future__ import annotations

import datetime as dt

import pytest
from django.contrib.auth.models import Group, Permission
from django.test import Client
from django.utils import timezone

from ds01portal.engine.fake import FakeEngine
from ds01portal.exceptions import EngineUnreachable, IllegalTransition, RefusedError
from ds01portal.models import Event, Operation, Person
from ds01portal.services.operations import LostLease, Work, claim_operation
from workspaces.models import Assignment, Container, Device, ForeignUse, Machine, SharedFolder
from workspaces.services import carrying, containers
from workspaces.services.force import force_settle_container, release_container_devices
from workspaces.services.machine import note_unreachable
from workspaces.services.trouble import find_trouble

pytestmark = pytest.mark.django_db
CONTAINERS = "/admin/workspaces/container/"
DEVICES = "/admin/workspaces/device/"
FOLDERS = "/admin/workspaces/sharedfolder/"
State = Container.State


@pytest.fixture
def ada(admin_person: Person) -> Client:
    client = Client()
    client.force_login(admin_person)
    return client


def act(client, url, action, *rows, **more):
    response = client.post(
        url, {"action": action, "_selected_action": [row.pk for row in rows], **more}, follow=True
    )
    assert response.status_code == 200
    return [(message.level_tag, message.message) for message in response.context["messages"]]


def page(client, url):
    response = client.get(url)
    assert response.status_code == 200, url
    return response.content.decode()


# Containers


def test_the_list_shows_state_owner_image_and_devices(ada, portal, alice, launch):
    launch(alice, "thesis", devices=2)
    gone = launch(alice, "old")
    Container.objects.filter(pk=gone.pk).update(state=State.REMOVED)

    listing = page(ada, CONTAINERS)

    for words in ("thesis", "alice", "Running", "Python 3", "GPU 0, GPU 1"):
        assert words in listing
    assert ">old<" not in listing
    assert ">old<" in page(ada, f"{CONTAINERS}?state=all")
    assert ">thesis<" not in page(ada, f"{CONTAINERS}?state=removed")
    assert "thesis" in page(ada, f"{CONTAINERS}?q=alice")


def test_nothing_is_added_edited_or_deleted_by_hand(ada, portal, alice, launch):
    container = launch(alice, "thesis")

    assert ada.get(f"{CONTAINERS}add/").status_code == 403
    assert ada.get(f"{CONTAINERS}{container.pk}/delete/").status_code == 403
    assert ada.post(f"{CONTAINERS}{container.pk}/change/", {"name": "x"}).status_code == 403
    assert "delete_selected" not in page(ada, CONTAINERS)
    assert 'name="_save"' not in page(ada, f"{CONTAINERS}{container.pk}/change/")


def test_the_list_needs_a_constant_number_of_queries(
    ada, portal, alice, charlie, ask, django_assert_max_num_queries
):
    for number in range(3):
        ask(charlie, f"c{number}", devices=1)
    with django_assert_max_num_queries(12):
        page(ada, CONTAINERS)
    ask(alice, "d1", devices=1)
    ask(alice, "d2")
    with django_assert_max_num_queries(12):
        page(ada, CONTAINERS)


def test_a_bulk_verb_reports_each_container_and_each_refusal(ada, portal, alice, launch):
    running, stopped = launch(alice, "one"), launch(alice, "two")
    containers.stop_container(container=stopped, actor=alice)
    carrying.carry_out_due()

    told = act(ada, CONTAINERS, "stop_containers", running, stopped)

    assert sorted(level for level, _text in told) == ["error", "success"]
    assert any("two is stopped; stop is not possible" in text for _level, text in told)
    carrying.carry_out_due()
    running.refresh_from_db()
    assert (running.state, running.stop_reason) == (State.STOPPED, "It was stopped by ada.")


@pytest.mark.parametrize(
    ("verb", "before", "after"),
    [
        ("start_containers", State.STOPPED, State.STARTING),
        ("stop_containers", State.RUNNING, State.STOPPING),
        ("restart_containers", State.RUNNING, State.RESTARTING),
        ("pause_containers", State.RUNNING, State.PAUSING),
        ("resume_containers", State.PAUSED, State.RESUMING),
    ],
)
def test_every_verb_asks_the_service(ada, portal, alice, launch, verb, before, after):
    container = launch(alice, "one")
    Container.objects.filter(pk=container.pk).update(state=before)

    told = act(ada, CONTAINERS, verb, container)

    container.refresh_from_db()
    assert [level for level, _text in told] == ["success"]
    assert container.state == after
    assert container.live_operation().actor.username == "ada"


@pytest.mark.parametrize(
    ("state", "offered"),
    [
        (State.RUNNING, {"Stop", "Restart", "Pause", "Remove…"}),
        (State.PAUSED, {"Stop", "Resume", "Remove…"}),
        (State.STOPPED, {"Start", "Release GPU", "Remove…"}),
        (State.STARTING, {"End by force…"}),
        (State.REMOVED, set()),
    ],
)
def test_the_page_of_a_container_offers_only_what_is_possible(
    ada, portal, alice, launch, state, offered
):
    container = launch(alice, "one", devices=1)
    Container.objects.filter(pk=container.pk).update(state=state)

    response = ada.get(f"{CONTAINERS}{container.pk}/change/")

    assert {str(verb["label"]) for verb in response.context["verbs"]} == offered


def test_a_verb_asked_for_on_the_page_leads_back_to_it(ada, portal, alice, launch):
    container = launch(alice, "one")

    response = ada.post(
        f"{CONTAINERS}?state=all",
        {"action": "stop_containers", "_selected_action": container.pk, "_back": "object"},
    )

    assert response.url == f"{CONTAINERS}{container.pk}/change/"


def test_removing_says_first_what_goes_and_what_stays(ada, portal, alice, launch):
    container = launch(alice, "one", devices=1)
    failed = launch(alice, "two")
    Container.objects.filter(pk=failed.pk).update(state=State.STARTING)
    asked = ada.post(
        CONTAINERS,
        {"action": "remove_containers", "_selected_action": [container.pk, failed.pk]},
    ).content.decode()

    assert "What goes" in asked
    assert "What stays" in asked
    assert f"Its workspace {container.workspace_path} stays." in asked
    assert "Not possible for" in asked
    container.refresh_from_db()
    assert container.state == State.RUNNING

    told = act(ada, CONTAINERS, "remove_containers", container, confirmed="yes")
    carrying.carry_out_due()
    container.refresh_from_db()
    assert told[0][0] == "success"
    assert container.state == State.REMOVED
    assert Device.objects.free().count() == 6


def test_too_many_at_once_are_not_removed(ada, portal, alice, launch, monkeypatch):
    monkeypatch.setattr("workspaces.admin.containers.MOST_AT_ONCE", 1)
    rows = [launch(alice, "one"), launch(alice, "two")]

    assert act(ada, CONTAINERS, "remove_containers", *rows)[0][0] == "error"


def test_who_may_only_look_gets_no_verbs(alice, portal, launch):
    container = launch(alice, "one")
    Person.objects.filter(pk=alice.pk).update(is_staff=True)
    alice.user_permissions.add(Permission.objects.get(codename="view_container"))
    client = Client()
    client.force_login(Person.objects.get(pk=alice.pk))

    assert "stop_containers" not in page(client, CONTAINERS)
    assert client.get(f"{CONTAINERS}{container.pk}/change/").context["verbs"] == []
    client.post(CONTAINERS, {"action": "stop_containers", "_selected_action": container.pk})
    container.refresh_from_db()
    assert container.state == State.RUNNING
    assert client.get(f"{DEVICES}sync/").status_code == 403


def test_a_student_does_not_get_in(alice, portal):
    client = Client()
    client.force_login(alice)

    for url in (CONTAINERS, DEVICES, f"{DEVICES}sync/", FOLDERS, "/admin/"):
        assert client.get(url).status_code == 302


def test_the_history_of_a_container_is_its_events(ada, portal, alice, launch):
    container = launch(alice, "one")

    history = ada.get(f"{CONTAINERS}{container.pk}/history/", follow=True)

    assert history.redirect_chain[0][0].startswith("/admin/ds01portal/event/?q=")
    assert "launched" in history.content.decode()


def test_the_page_says_since_when_and_why(ada, portal, alice, launch):
    container = launch(alice, "one")
    containers.stop_container(container=container, actor=alice)
    carrying.carry_out_due()

    text = page(ada, f"{CONTAINERS}{container.pk}/change/")

    assert "It was stopped by its owner." in text
    assert ">None<" not in text


# Releasing a GPU


def test_the_gpu_of_a_stopped_container_is_released_with_a_reason(ada, portal, alice, launch):
    container = launch(alice, "one", devices=1)
    containers.stop_container(container=container, actor=alice)
    carrying.carry_out_due()

    told = act(ada, CONTAINERS, "release_gpus", container)

    event = Event.objects.filter(verb="release").get()
    assert told[0][0] == "success"
    assert (event.actor.username, event.owner) == ("ada", alice)
    assert event.reason == "An admin released the GPU of the stopped container."
    assert not Assignment.objects.live().exists()
    assert "holds no GPU" in act(ada, CONTAINERS, "release_gpus", container)[0][1]


def test_a_container_whose_gpu_was_released_gets_one_again_at_its_start(
    portal, alice, admin_person, launch
):
    container = launch(alice, "one", devices=1)
    containers.stop_container(container=container, actor=alice)
    carrying.carry_out_due()
    release_container_devices(container=container, actor=admin_person)

    container.refresh_from_db()
    containers.start_container(container=container, actor=alice)
    carrying.carry_out_due()

    container.refresh_from_db()
    assert container.state == State.RUNNING
    assert Assignment.objects.live().count() == 1


def test_the_gpu_of_a_running_container_is_not_released(ada, portal, alice, launch):
    container = launch(alice, "one", devices=1)

    told = act(ada, CONTAINERS, "release_gpus", container)

    assert told[0][0] == "error"
    assert "Stop it first." in told[0][1]
    assert Assignment.objects.live().count() == 1


# The forced way out


@pytest.mark.parametrize("on_engine", ["running", "exited", "missing"])
@pytest.mark.parametrize("state", [State.STARTING, State.STOPPING, State.REMOVING])
def test_what_hangs_is_ended_and_shown_as_the_engine_has_it(
    ada, portal, alice, launch, state, on_engine
):
    container = launch(alice, "one", devices=1)
    verb = {"starting": "start", "stopping": "stop", "removing": "remove"}[state]
    if verb == "start":
        Container.objects.filter(pk=container.pk).update(state=State.STOPPED)
    containers.VERBS[verb](container=container, actor=alice)
    if on_engine == "exited":
        portal.exit_container(container.engine_name, 0)
    elif on_engine == "missing":
        portal.remove_container(container.engine_name, force=True)

    asked = ada.post(CONTAINERS, {"action": "force_end", "_selected_action": container.pk})
    told = act(ada, CONTAINERS, "force_end", container, confirmed="yes")

    container.refresh_from_db()
    expected = {"running": State.RUNNING, "exited": State.STOPPED, "missing": State.REMOVED}
    assert "What happens" in asked.content.decode()
    assert told[0][0] == "success"
    assert container.state == expected[on_engine]
    operation = Operation.objects.get(kind=verb)
    assert (operation.state, operation.error["code"]) == ("failed", "forced")
    event = Event.objects.get(verb="forced")
    assert (event.actor.username, event.evidence["operation"]) == ("ada", verb)
    assert Assignment.objects.live().count() == (0 if on_engine == "missing" else 1)


def test_a_hanging_launch_is_undone_and_its_worker_loses_the_fence(
    portal: FakeEngine, alice, admin_person, ask
):
    container = ask(alice, "one", devices=2)
    work = Work(claim_operation(worker="elsewhere:1"))
    work.enter_phase("create")

    force_settle_container(container=container, actor=admin_person)

    container.refresh_from_db()
    assert (container.state, container.error["code"]) == (State.FAILED, "forced")
    assert not Assignment.objects.live().exists()
    assert portal.list_containers() == []
    with pytest.raises(LostLease):
        work.enter_phase("start")


def test_nothing_is_forced_while_the_engine_does_not_answer(portal, alice, admin_person, ask):
    container = ask(alice, "one", devices=1)
    portal.go_down()

    with pytest.raises(EngineUnreachable):
        force_settle_container(container=container, actor=admin_person)

    container.refresh_from_db()
    assert container.state == State.LAUNCHING
    assert container.live_operation() is not None
    assert Assignment.objects.live().count() == 1


def test_what_does_not_hang_is_not_forced(portal, alice, admin_person, launch):
    with pytest.raises(IllegalTransition, match="nothing to end by force"):
        force_settle_container(container=launch(alice, "one"), actor=admin_person)


def test_a_busy_container_keeps_its_gpu(portal, alice, admin_person, launch):
    container = launch(alice, "one", devices=1)
    containers.stop_container(container=container, actor=alice)

    with pytest.raises(RefusedError, match="busy"):
        release_container_devices(container=container, actor=admin_person)


# Devices


def test_devices_are_drained_with_a_reason_and_given_out_again(ada, portal, simulated_devices):
    device = simulated_devices[0]
    asked = ada.post(DEVICES, {"action": "drain_devices", "_selected_action": device.pk})
    empty = ada.post(
        DEVICES, {"action": "drain_devices", "_selected_action": device.pk, "reason": " "}
    )

    assert "given out no longer" in asked.content.decode()
    assert "This field is required" in empty.content.decode()
    assert not Device.objects.get(pk=device.pk).drained

    told = act(ada, DEVICES, "drain_devices", device, reason="fan is loud")
    again = act(ada, DEVICES, "drain_devices", device, reason="fan is loud")
    assert (told[0][0], again[0][0]) == ("success", "error")
    assert "drained: fan is loud" in page(ada, DEVICES)
    assert Event.objects.get(verb="drain").actor.username == "ada"

    assert act(ada, DEVICES, "undrain_devices", device)[0][0] == "success"
    assert act(ada, DEVICES, "undrain_devices", device)[0][0] == "error"
    assert Device.objects.get(pk=device.pk) in Device.objects.free()


def test_the_inventory_is_previewed_and_then_stored(ada, fake_engine, settings):
    settings.DS01_GPUS = "simulated:2xA100-40GB"

    assert "This would change" in page(ada, f"{DEVICES}sync/")
    assert not Device.objects.exists()
    told = ada.post(f"{DEVICES}sync/", follow=True)
    assert "2 added" in str(next(iter(told.context["messages"])))
    assert Device.objects.count() == 2
    assert "Read the GPUs" in page(ada, DEVICES)


def test_devices_say_who_holds_them(ada, portal, alice, launch, simulated_devices):
    launch(alice, "one", devices=1)
    ForeignUse.objects.create(
        device=simulated_devices[3], engine_id="f" * 64, engine_name="stranger"
    )

    listing = page(ada, DEVICES)

    assert f"one._.{alice.uid}" in listing
    assert "stranger (not ours)" in listing
    detail = page(ada, f"{DEVICES}{simulated_devices[0].pk}/change/")
    assert 'name="_save"' not in detail
    assert "in use" in detail


def test_assignments_uses_and_the_machine_are_read_only(ada, portal, alice, launch):
    launch(alice, "one", devices=1)
    assignment = Assignment.objects.get()

    assert f"one._.{alice.uid}" in page(ada, "/admin/workspaces/assignment/")
    assert 'name="_save"' not in page(ada, f"/admin/workspaces/assignment/{assignment.pk}/change/")
    page(ada, "/admin/workspaces/foreignuse/")
    machine = ada.get("/admin/workspaces/machine/", follow=True)
    assert machine.redirect_chain[0][0] == "/admin/workspaces/machine/1/change/"
    assert "27.0.0" in machine.content.decode()
    for model in ("assignment", "foreignuse", "machine"):
        assert ada.get(f"/admin/workspaces/{model}/add/").status_code == 403


# Shared folders


def offer(client, path, name="sets"):
    response = client.post(
        f"{FOLDERS}add/",
        {"name": name, "purpose": "data", "path": str(path), "read_only": "on", "enabled": "on"},
    )
    if response.status_code == 302:
        return ""
    return " ".join(response.context["adminform"].form.errors.get("path", ["other field"]))


def test_a_folder_below_a_root_is_offered_changed_and_withdrawn_with_history(ada, tmp_path):
    (tmp_path / "shared" / "sets").mkdir(parents=True)

    assert offer(ada, tmp_path / "shared" / "sets") == ""
    folder = SharedFolder.objects.get()
    ada.post(
        f"{FOLDERS}{folder.pk}/change/",
        {
            "name": "sets",
            "purpose": "data",
            "path": folder.path,
            "groups": Group.objects.get(name="student").pk,
            "enabled": "on",
        },
    )
    assert "student" in page(ada, FOLDERS)
    ada.post(FOLDERS, {"action": "delete_selected", "_selected_action": folder.pk, "post": "yes"})

    events = Event.objects.filter(subject_kind="folder").order_by("id")
    assert [event.verb for event in events] == ["create", "change", "remove"]
    assert events[1].after["groups"] == ["student"]
    assert events[1].actor.username == "ada"
    assert not SharedFolder.objects.exists()


def test_one_folder_is_withdrawn_with_history_too(ada, tmp_path):
    folder = SharedFolder.objects.create(name="sets", purpose="data", path="/nowhere")

    ada.post(f"{FOLDERS}{folder.pk}/delete/", {"post": "yes"})

    assert Event.objects.get(subject_kind="folder").verb == "remove"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("{root}/missing", "There is no folder"),
        ("{root}/../secret", "without “..”"),
        ("shared/sets", "Write the whole path"),
        ("{tmp}/secret", "is not below what may be shared"),
        ("{root}/link", "is not below what may be shared"),
        ("{root}/a,b", "is not below what may be shared"),
        ("/etc", "is not below what may be shared"),
    ],
    ids=["missing", "dots", "relative", "outside", "link-out", "comma", "system"],
)
def test_a_folder_that_may_not_be_shared_is_refused_clearly(ada, tmp_path, path, words):
    root = tmp_path / "shared"
    (root / "a,b").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (root / "link").symlink_to(tmp_path / "secret")

    assert words in offer(ada, path.format(root=root, tmp=tmp_path))
    assert not SharedFolder.objects.exists()


def test_without_roots_no_folder_can_be_shared(ada, settings, tmp_path):
    settings.DS01_SHARED_ROOTS = []

    assert "DS01_SHARED_ROOTS" in offer(ada, tmp_path)


# The front page


def test_the_front_page_says_when_all_is_fine(ada, portal):
    assert find_trouble() == []
    front = page(ada, "/admin/")
    assert "All is fine" in front
    assert front.index("All is fine") < front.index("Containers and GPUs")


def test_the_front_page_shows_trouble_first_and_leads_to_it(ada, portal, alice, ask, settings):
    stuck = ask(alice, "stuck")
    settings.DS01_DISK_FLOOR = 10**18
    Operation.objects.update(created_at=timezone.now() - dt.timedelta(minutes=6))
    Device.objects.filter(index=0).update(usable=False, unusable_reason="fell off the bus")
    Device.objects.filter(index=1).update(present=False)
    Machine.objects.update(worker_seen_at=None)
    note_unreachable(error=EngineUnreachable("No answer.", cause="socket is gone"))
    for number in range(7):
        Operation.objects.create(
            kind="pull",
            subject_kind="image",
            subject_id=str(number),
            subject_label=f"img{number}",
            state="failed",
            error={"message": "No such image."},
            created_at=timezone.now(),
            not_before=timezone.now(),
            deadline_at=timezone.now(),
            finished_at=timezone.now(),
        )

    troubles = find_trouble()
    front = page(ada, "/admin/")

    assert [one.level for one in troubles[:3]] == ["error"] * 3
    for words in (
        "Docker Engine does not answer.",
        "socket is gone",
        "No worker is running",
        "disk is nearly full",
        f"stuck._.{alice.uid} has been starting for more than five minutes.",
        "is not usable: fell off the bus",
        "is gone: the inventory does not show it any more.",
        "pull of img6 failed: No such image.",
        "2 more operations failed",
    ):
        assert words in front, words
    assert f"{CONTAINERS}{stuck.pk}/change/" in front
    assert "All is fine" not in front


def test_old_failures_split_cards_and_devices_taken_out_are_no_trouble(portal, simulated_devices):
    long_ago = timezone.now() - dt.timedelta(days=8)
    Device.objects.filter(index=1).update(present=False, seen_at=long_ago)

    assert Device.objects.filter(unusable_reason__startswith="split into MIG").exists()
    assert find_trouble() == []


def test_a_device_held_twice_is_the_worst_trouble(portal, alice, launch, monkeypatch):
    monkeypatch.setattr("workspaces.services.trouble.find_double_holds", lambda: ["GPU-1"])

    assert "GPU-1 is held twice" in find_trouble()[0].text


def test_engine_that_is_busy_itself_is_told(portal, alice, admin_person, launch):
    container = launch(alice, "one")
    containers.remove_container(container=container, actor=alice)
    portal.find(container.engine_name).raw["State"]["Status"] = "removing"

    with pytest.raises(Exception, match="Docker itself is still busy"):
        force_settle_container(container=container, actor=admin_person)
