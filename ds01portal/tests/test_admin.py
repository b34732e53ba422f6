"""Admins see people, quotas and history; saving a quota shows first what changes for whom."""

import datetime as dt
import pwd

import pytest
from django.contrib.auth.models import Group
from django.urls import reverse
from django.utils import timezone

from ds01portal.limits import LIMITS, UNLIMITED, UNSET, format_exactly
from ds01portal.models import Event, Operation, Person, Quota
from ds01portal.services.people import create_person
from ds01portal.services.quotas import resolve_limits, set_limits

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _host(monkeypatch):
    """A host that knows root and nobody else."""

    def by_name(name):
        if name == "root":
            return pwd.struct_passwd(("root", "x", 0, 0, "", "/root", "sh"))
        raise KeyError(name)

    def by_number(uid):
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwnam", by_name)
    monkeypatch.setattr(pwd, "getpwuid", by_number)


@pytest.fixture
def alice():
    return create_person(username="alice", email="alice@example.org", group="student", actor=None)


@pytest.fixture
def dean(client):
    person = create_person(username="dean", group="admin", actor=None)
    client.force_login(person)
    return person


def quota_form(quota=None, **values):
    """Return what the browser sends for a quota."""
    data = {"priority": quota.priority if quota else 100, "reason": "", "policies": "{}"}
    for spec in LIMITS:
        data[spec.name] = format_exactly(getattr(quota, spec.name), spec.unit) if quota else ""
    if quota:
        data["version"] = quota.updated_at.isoformat()
    return data | values


def change_url(quota):
    return reverse("admin:ds01portal_quota_change", args=[quota.pk])


@pytest.mark.parametrize("model", ["person", "quota", "event", "operation"])
def test_every_list_opens_with_a_constant_number_of_queries(
    client, dean, alice, model, django_assert_max_num_queries
):
    set_limits(subject=alice, values={"gpueq": 1}, actor=dean)
    for number in range(20):
        create_person(username=f"p{number}", group="student", actor=dean)
    with django_assert_max_num_queries(14):
        response = client.get(reverse(f"admin:ds01portal_{model}_changelist"))
    assert response.status_code == 200


def test_strangers_and_students_do_not_get_in(client, alice):
    client.force_login(alice)
    response = client.get(reverse("admin:ds01portal_quota_changelist"))
    assert response.status_code == 302
    assert "login" in response["Location"]


def test_a_quota_is_saved_only_after_the_preview(client, dean, alice):
    quota = Quota.objects.get(group__name="student")
    data = quota_form(quota, gpueq="3", memory="48g", idle_timeout="unlimited")
    preview = client.post(change_url(quota), data)
    text = preview.content.decode()
    assert preview.status_code == 200
    assert "This changes limits of 1 person." in text
    assert "<td>32 GB</td><td>48 GB</td>" in text
    assert 'name="gpueq" value="3"' in text
    assert resolve_limits(person=alice).value("gpueq") == 2

    saved = client.post(change_url(quota), data | {"_confirmed": "Save"})
    assert saved.status_code == 302
    limits = resolve_limits(person=alice)
    assert (limits.value("gpueq"), limits.value("memory")) == (3, 48 * 1024**3)
    assert limits.value("idle_timeout") is UNLIMITED
    event = Event.objects.filter(subject_kind="quota").latest("id")
    assert event.actor == dean
    assert event.before["idle_timeout"] is None
    assert event.after["idle_timeout"] == "unlimited"


def test_saving_without_a_change_keeps_every_limit(client, dean):
    quota = Quota.objects.get(layer="defaults")
    before = quota.limits()
    data = quota_form(quota, policies='{"default_group": "student"}')
    assert "Nobody's limits change." in client.post(change_url(quota), data).content.decode()
    client.post(change_url(quota), data | {"_confirmed": "Save"})
    quota.refresh_from_db()
    assert quota.limits() == before
    assert not Event.objects.filter(subject_kind="quota").exists()


def test_the_form_shows_limits_as_people_write_them(client, dean):
    quota = Quota.objects.get(layer="defaults")
    text = client.get(change_url(quota)).content.decode()
    for name, value in (("memory", "32 GB"), ("idle_timeout", "30m"), ("disk", "unlimited")):
        assert f'name="{name}" value="{value}"' in text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gpueq": "-1"}, "is not a number"),
        ({"gpueq": "lots"}, "is not a number"),
        ({"containers": "2.5"}, "is not a whole number"),
        ({"memory": "32 potatoes"}, "is not a size"),
        ({"max_runtime": "soon"}, "is not a duration"),
        ({"policies": "[1]"}, "must be an object"),
        ({"policies": '{"gpu_idle_threshold": -1}'}, "is not a number from zero on"),
        ({"policies": '{"default_group": "wizards"}'}, "There is no group"),
        ({"policies": "{"}, "Enter a valid JSON"),
        ({"expires_at_0": "2999-01-01", "expires_at_1": "00:00"}, "Only a personal quota"),
        ({"version": "2020-01-01T00:00:00+00:00"}, "Somebody else has changed this quota"),
        ({"version": ""}, "Somebody else has changed this quota"),
    ],
)
@pytest.mark.parametrize("confirmed", [{}, {"_confirmed": "Save"}])
def test_a_bad_quota_is_shown_again_with_the_reason(client, dean, values, message, confirmed):
    quota = Quota.objects.get(group__name="student")
    before = list(Quota.objects.values())
    response = client.post(change_url(quota), quota_form(quota, **values) | confirmed)
    assert response.status_code == 200
    assert message in response.content.decode()
    assert list(Quota.objects.values()) == before


def test_two_admins_with_one_page_open_do_not_undo_each_other(client, dean):
    quota = Quota.objects.get(group__name="student")
    stale = quota_form(quota, cpus="64")
    set_limits(subject=quota.group, values={"gpueq": 1}, actor=None)
    response = client.post(change_url(quota), stale | {"_confirmed": "Save"})
    assert "Somebody else has changed this quota" in response.content.decode()
    quota.refresh_from_db()
    assert (quota.gpueq, quota.cpus) == (1, UNSET)


def test_a_personal_quota_until_a_date_is_added(client, dean, alice):
    until = timezone.localtime() + dt.timedelta(days=3)
    data = quota_form(
        person=alice.pk,
        gpueq="8",
        reason="thesis",
        expires_at_0=f"{until:%Y-%m-%d}",
        expires_at_1="12:00",
    )
    url = reverse("admin:ds01portal_quota_add")
    assert "alice" in client.post(url, data).content.decode()
    assert not Quota.objects.filter(person=alice).exists()
    assert client.post(url, data | {"_confirmed": "Save"}).status_code == 302
    limit = resolve_limits(person=alice).limits["gpueq"]
    assert (limit.value, limit.source) == (8, "personal")
    assert limit.expires_at is not None
    assert Quota.objects.get(person=alice).reason == "thesis"


def test_a_new_quota_needs_one_subject_that_has_none(client, dean, alice):
    url = reverse("admin:ds01portal_quota_add")
    student = Group.objects.get(name="student")
    for values in ({}, {"person": alice.pk, "group": student.pk}):
        text = client.post(url, quota_form(**values)).content.decode()
        assert "Choose a group or a person, and not both." in text
    text = client.post(url, quota_form(group=student.pk)).content.decode()
    assert "already exists" in text
    past = {"person": alice.pk, "expires_at_0": "2020-01-01", "expires_at_1": "12:00"}
    assert "This time has passed." in client.post(url, quota_form(**past)).content.decode()


def test_a_personal_quota_is_removed_with_an_event_and_the_defaults_stay(client, dean, alice):
    quota = set_limits(subject=alice, values={"gpueq": 8}, actor=dean)
    client.post(reverse("admin:ds01portal_quota_delete", args=[quota.pk]), {"post": "yes"})
    assert not Quota.objects.filter(person=alice).exists()
    assert Event.objects.filter(verb="remove", subject_kind="quota", actor=dean).exists()
    defaults = Quota.objects.get(layer="defaults")
    url = reverse("admin:ds01portal_quota_delete", args=[defaults.pk])
    assert client.post(url, {"post": "yes"}).status_code == 403
    assert Quota.objects.filter(layer="defaults").exists()


def test_a_person_added_here_has_an_identity(client, dean):
    data = {
        "username": "bob",
        "email": "",
        "usable_password": "true",
        "password1": "a-long-and-odd-phrase",
        "password2": "a-long-and-odd-phrase",
    }
    response = client.post(reverse("admin:ds01portal_person_add"), data)
    assert response.status_code == 302
    bob = Person.objects.get(username="bob")
    assert bob.uid == 200_001
    assert bob.linux_name == "bob"
    verbs = Event.objects.filter(owner=bob).values_list("verb", "actor__username")
    assert set(verbs) == {("identify", "dean"), ("create", "dean")}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"username": "root"}, "belongs to the system"),
        ({"username": "ALICE"}, "There is already a person"),
        ({"username": "a b"}, "Enter a valid username"),
        ({"email": "alice@example.org"}, "is alice&#x27;s already"),
        ({"email": "nonsense"}, "Enter a valid email address"),
    ],
)
def test_a_person_who_cannot_be_is_refused_on_the_form(client, dean, alice, values, message):
    data = {
        "username": "bob",
        "email": "",
        "usable_password": "true",
        "password1": "a-long-and-odd-phrase",
        "password2": "a-long-and-odd-phrase",
    }
    response = client.post(reverse("admin:ds01portal_person_add"), data | values)
    assert response.status_code == 200
    assert message in response.content.decode()
    assert Person.objects.count() == 2


def person_form(person, **values):
    return {
        "username": person.username,
        "email": person.email,
        "first_name": "",
        "last_name": "",
        "is_active": "on",
        "groups": [group.pk for group in person.groups.all()],
        **({"is_staff": "on"} if person.is_staff else {}),
        **({"is_superuser": "on"} if person.is_superuser else {}),
    } | values


def test_the_group_admin_brings_rights_and_takes_them_along(client, dean, alice):
    url = reverse("admin:ds01portal_person_change", args=[alice.pk])
    admins = Group.objects.get(name="admin")
    assert client.post(url, person_form(alice, groups=[admins.pk])).status_code == 302
    alice.refresh_from_db()
    assert alice.is_superuser and alice.is_staff
    students = Group.objects.get(name="student")
    client.post(url, person_form(alice, groups=[students.pk]))
    alice.refresh_from_db()
    assert not alice.is_superuser
    event = Event.objects.filter(owner=alice, verb="change").latest("id")
    assert event.before["groups"] == ["admin"]
    assert event.after["is_superuser"] is False
    assert event.actor == dean


def test_the_last_admin_stays(client, dean):
    url = reverse("admin:ds01portal_person_change", args=[dean.pk])
    text = client.post(url, person_form(dean, groups=[])).content.decode()
    assert "dean is the last admin." in text
    data = person_form(dean)
    del data["is_active"]
    assert "dean is the last admin." in client.post(url, data).content.decode()
    data = person_form(dean)
    del data["is_superuser"]
    assert "dean is the last admin." in client.post(url, data).content.decode()
    dean.refresh_from_db()
    assert dean.is_superuser and dean.is_active


def test_the_identity_is_shown_and_not_edited(client, dean, alice):
    url = reverse("admin:ds01portal_person_change", args=[alice.pk])
    assert str(alice.uid) in client.get(url).content.decode()
    client.post(url, person_form(alice, uid=1234, linux_name="root"))
    alice.refresh_from_db()
    assert (alice.uid, alice.linux_name) == (200_001, "alice")


def test_people_are_not_deleted(client, dean, alice):
    url = reverse("admin:ds01portal_person_delete", args=[alice.pk])
    assert client.post(url, {"post": "yes"}).status_code == 403
    assert Person.objects.filter(pk=alice.pk).exists()


def test_identities_are_allocated_with_a_message_for_each_person(client, dean):
    people = [Person.objects.create(username=name) for name in ("carl", "root")]
    response = client.post(
        reverse("admin:ds01portal_person_changelist"),
        {"action": "allocate_identity", "_selected_action": [person.pk for person in people]},
        follow=True,
    )
    texts = [str(message) for message in response.context["messages"]]
    assert "carl: uid 200001, gid 200001, Linux name carl" in texts
    assert any("root: the uid 0 belongs to the system" in text for text in texts)


def test_history_is_read_only(client, dean):
    event = Event.objects.latest("id")
    url = reverse("admin:ds01portal_event_change", args=[event.pk])
    assert client.get(url).status_code == 200
    assert client.post(url, {"verb": "forged"}).status_code == 403
    assert client.get(reverse("admin:ds01portal_event_add")).status_code == 403
    assert (
        client.post(
            reverse("admin:ds01portal_event_delete", args=[event.pk]), {"post": "yes"}
        ).status_code
        == 403
    )


def test_operations_are_cancelled_one_message_each(client, dean, alice):
    now = timezone.now()
    common = {"owner": alice, "created_at": now, "not_before": now, "deadline_at": now}
    live = Operation.objects.create(
        kind="launch", subject_kind="container", subject_id="1", subject_label="one", **common
    )
    ended = Operation.objects.create(
        kind="stop", subject_kind="container", subject_id="2", state="done", **common
    )
    response = client.post(
        reverse("admin:ds01portal_operation_changelist"),
        {"action": "cancel_operations", "_selected_action": [live.pk, ended.pk]},
        follow=True,
    )
    texts = sorted(str(message) for message in response.context["messages"])
    assert len(texts) == 2
    assert "has ended already" in texts[1]
    live.refresh_from_db()
    ended.refresh_from_db()
    assert (live.cancel_requested, ended.cancel_requested) == (True, False)


def test_admin_pages_have_nothing_inline(client, dean, alice):
    quota = Quota.objects.get(group__name="student")
    pages = [
        client.get(reverse("admin:ds01portal_person_change", args=[alice.pk])),
        client.get(change_url(quota)),
        client.post(change_url(quota), quota_form(quota, gpueq="1")),
    ]
    for page in pages:
        text = page.content.decode()
        assert " style=" not in text
        assert "<style" not in text
        assert " onclick=" not in text
