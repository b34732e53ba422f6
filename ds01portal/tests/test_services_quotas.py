"""One resolver: personal override, then group, then defaults, field by field."""

import datetime as dt

import pytest
from django.contrib.auth.models import Group
from django.db import IntegrityError, transaction
from django.utils import timezone

from ds01portal.exceptions import InvalidInput, QuotaExceeded
from ds01portal.limits import LIMIT_NAMES, UNLIMITED, UNSET
from ds01portal.models import Event, Person, Quota
from ds01portal.services.quotas import (
    check_limit,
    delete_limits,
    preview_limits,
    resolve_limits,
    resolve_limits_for,
    set_limits,
)

pytestmark = pytest.mark.django_db
GB = 1024**3
HOUR = 3600


def make_person(username, *groups):
    person = Person.objects.create(username=username)
    person.groups.set(Group.objects.filter(name__in=groups))
    return person


@pytest.fixture
def world():
    """Students, researchers and admins with limits of their own, and one special user."""
    Quota.objects.all().delete()
    Group.objects.all().delete()
    everybody = {
        "gpueq": 1,
        "cpus": 8,
        "memory": 32 * GB,
        "shm": 16 * GB,
        "containers": 2,
        "idle_timeout": 48 * HOUR,
        "max_runtime": 168 * HOUR,
        "gpu_hold": 24 * HOUR,
        "container_hold": 12 * HOUR,
    }
    policies = {"default_group": "students"}
    groups = {
        "students": {"gpueq": 1, "cpus": 8, "memory": 32 * GB},
        "researchers": {"gpueq": 2, "cpus": 16, "memory": 64 * GB},
        "admins": {"gpueq": UNLIMITED, "cpus": 32, "memory": 128 * GB, "idle_timeout": UNLIMITED},
    }
    for number, (name, values) in enumerate(groups.items()):
        group = Group.objects.create(name=name)
        set_limits(subject=group, values=values, actor=None, priority=number)
    set_limits(subject=None, values=everybody, actor=None, policies=policies)
    people = {
        "student1": make_person("student1", "students"),
        "researcher1": make_person("researcher1", "researchers"),
        "admin1": make_person("admin1", "admins"),
        "special_user": make_person("special_user", "researchers"),
        "nobody": make_person("nobody"),
    }
    set_limits(subject=people["special_user"], values={"gpueq": 4}, actor=None)
    return people


@pytest.mark.parametrize(
    ("who", "group", "expected"),
    [
        ("student1", "students", {"gpueq": 1, "cpus": 8, "memory": 32 * GB}),
        ("researcher1", "researchers", {"gpueq": 2, "cpus": 16, "memory": 64 * GB}),
        ("admin1", "admins", {"gpueq": UNLIMITED, "cpus": 32, "idle_timeout": UNLIMITED}),
        ("nobody", "students", {"gpueq": 1, "cpus": 8, "max_runtime": 168 * HOUR}),
        # The override names one field; the group's others still count, field by field.
        ("special_user", "researchers", {"gpueq": 4, "cpus": 16, "memory": 64 * GB}),
        ("special_user", "researchers", {"idle_timeout": 48 * HOUR, "containers": 2}),
        ("student1", "students", {"disk": UNSET, "images": UNSET}),
    ],
)
def test_each_limit_comes_from_the_nearest_layer_that_sets_it(world, who, group, expected):
    limits = resolve_limits(person=world[who])
    assert limits.group == group
    assert {name: limits.value(name) for name in expected} == expected


def test_every_limit_names_its_source(world):
    limits = resolve_limits(person=world["special_user"]).limits
    assert limits["gpueq"].source == "personal"
    assert limits["cpus"].source == "group researchers"
    assert limits["containers"].source == "defaults"
    assert limits["disk"].source == ""
    assert tuple(limits) == LIMIT_NAMES


def test_zero_of_a_near_layer_is_not_overruled_by_a_far_one(world):
    set_limits(subject=world["student1"], values={"gpueq": 0, "gpu_hold": 0}, actor=None)
    limits = resolve_limits(person=world["student1"])
    assert (limits.value("gpueq"), limits.value("gpu_hold")) == (0, 0)


def test_a_personal_quota_ends_by_itself(world):
    now = timezone.now()
    until = now + dt.timedelta(days=1)
    person = world["student1"]
    set_limits(subject=person, values={"gpueq": 8}, actor=None, expires_at=until)
    limit = resolve_limits(person=person, now=now).limits["gpueq"]
    assert (limit.value, limit.expires_at) == (8, until)
    assert resolve_limits(person=person, now=until).value("gpueq") == 1


def test_of_several_groups_the_lowest_priority_number_counts(world):
    both = make_person("both", "students", "researchers")
    assert resolve_limits(person=both).group == "students"
    Quota.objects.filter(group__name="researchers").update(priority=0)
    Quota.objects.filter(group__name="students").update(priority=5)
    assert resolve_limits(person=both).group == "researchers"


def test_without_a_default_group_only_the_defaults_count(world):
    set_limits(subject=None, values={"gpueq": 0.5}, actor=None, policies={})
    limits = resolve_limits(person=world["nobody"])
    assert (limits.group, limits.value("gpueq")) == ("", 0.5)


def test_many_people_cost_as_many_queries_as_one(world, django_assert_num_queries):
    for number in range(30):
        make_person(f"extra{number}", "students")
    people = list(Person.objects.all())
    with django_assert_num_queries(2):
        resolve_limits(person=people[0])
    with django_assert_num_queries(2):
        assert len(resolve_limits_for(people=people)) == 35


def test_json_tells_the_three_states_apart(world):
    data = resolve_limits(person=world["admin1"]).as_dict()
    assert data["limits"]["gpueq"]["value"] == "unlimited"
    assert data["limits"]["disk"]["value"] is None
    assert data["limits"]["memory"] == {
        "value": 128 * GB,
        "text": "128 GB",
        "unit": "bytes",
        "source": "group admins",
        "expires_at": None,
    }


# Checks ----------------------------------------------------------------------------------------


def test_within_the_limit_nothing_is_said(world):
    limits = resolve_limits(person=world["researcher1"])
    check_limit(limits=limits, name="gpueq", used=1 + 3 / 7, requested=4 / 7)
    check_limit(limits=limits, name="memory", requested=64 * GB)
    admin = resolve_limits(person=world["admin1"])
    check_limit(limits=admin, name="gpueq", used=100, requested=100)


def test_a_refusal_has_the_numbers(world):
    limits = resolve_limits(person=world["researcher1"])
    with pytest.raises(QuotaExceeded) as caught:
        check_limit(limits=limits, name="gpueq", used=1, requested=2)
    error = caught.value
    assert error.message == "GPUs: 2 asked for — your limit is 2 and 1 is in use, so 1 more."
    assert error.fields == {
        "resource": "gpueq",
        "unit": "gpueq",
        "limit": 2.0,
        "used": 1,
        "requested": 2,
        "left": 1.0,
    }


def test_a_refused_size_is_written_in_people_s_units(world):
    limits = resolve_limits(person=world["student1"])
    with pytest.raises(QuotaExceeded) as caught:
        check_limit(limits=limits, name="memory", requested=48 * GB)
    assert caught.value.message == "Memory per container: 48 GB asked for — your limit is 32 GB."


def test_a_lowered_limit_leaves_nothing_rather_than_less(world):
    limits = resolve_limits(person=world["student1"])
    with pytest.raises(QuotaExceeded, match="3 is in use, so none more") as caught:
        check_limit(limits=limits, name="containers", used=3, requested=1)
    assert caught.value.fields["left"] == 0


def test_what_no_layer_sets_is_granted_to_nobody(world):
    limits = resolve_limits(person=world["student1"])
    with pytest.raises(QuotaExceeded, match="no limit is set for you") as caught:
        check_limit(limits=limits, name="images", requested=1)
    assert caught.value.fields["limit"] is None


# Changes ---------------------------------------------------------------------------------------


def test_a_change_is_written_down_once_with_before_and_after(world):
    Event.objects.all().delete()
    students = Group.objects.get(name="students")
    admin = world["admin1"]
    for _twice in range(2):
        set_limits(subject=students, values={"gpueq": 3, "cpus": 8}, actor=admin, reason="term")
    event = Event.objects.get()
    assert (event.verb, event.subject_kind, event.actor) == ("change", "quota", admin)
    assert event.before == {"gpueq": 1.0, "reason": ""}
    assert event.after == {"gpueq": 3, "reason": "term"}


def test_limits_that_are_not_named_stay(world):
    quota = set_limits(subject=world["special_user"], values={"cpus": UNLIMITED}, actor=None)
    quota.refresh_from_db()
    assert (quota.gpueq, quota.cpus, quota.memory) == (4, UNLIMITED, UNSET)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gpus": 1}, "There is no limit “gpus”"),
        ({"gpueq": -0.5}, "not possible"),
        ({"gpueq": float("nan")}, "not possible"),
        ({"memory": float("inf")}, "not possible"),
        ({"containers": 1.5}, "not possible"),
        ({"disk": 2**60}, "not possible"),
    ],
)
def test_impossible_values_are_refused_and_nothing_changes(world, values, message):
    before = list(Quota.objects.values())
    with pytest.raises(InvalidInput, match=message):
        set_limits(subject=None, values={"cpus": 1} | values, actor=None)
    assert list(Quota.objects.values()) == before


def test_idle_thresholds_are_numbers(world):
    for policies in ({"a": -1}, {"a": "5"}, {"a": True}, {"b": {"a": []}}, {"default_group": "x"}):
        with pytest.raises(InvalidInput):
            set_limits(subject=None, values={}, actor=None, policies=policies)


def test_only_personal_quotas_expire(world):
    with pytest.raises(InvalidInput, match="Only a personal quota can expire"):
        set_limits(subject=None, values={}, actor=None, expires_at=timezone.now())


def test_a_preview_says_what_changes_for_whom_and_changes_nothing(world):
    before = list(Quota.objects.values())
    researchers = Group.objects.get(name="researchers")
    changes = preview_limits(subject=researchers, values={"gpueq": 3, "cpus": 20, "memory": UNSET})
    seen = [(one.person.username, one.spec.name, one.before, one.after) for one in changes]
    assert seen == [
        ("researcher1", "gpueq", 2, 3),
        ("researcher1", "cpus", 16, 20),
        ("researcher1", "memory", 64 * GB, 32 * GB),
        ("special_user", "cpus", 16, 20),
        ("special_user", "memory", 64 * GB, 32 * GB),
    ]
    assert list(Quota.objects.values()) == before


def test_a_preview_of_the_default_group_names_people_in_no_group(world):
    students = Group.objects.get(name="students")
    changes = preview_limits(subject=students, values={"cpus": 2})
    assert [one.person.username for one in changes] == ["nobody", "student1"]


def test_a_preview_of_a_layer_that_is_not_there_yet(world):
    changes = preview_limits(subject=world["nobody"], values={"cpus": 1})
    assert [(one.before, one.after) for one in changes] == [(8, 1)]


def test_a_removed_quota_gives_way_to_the_next_layer(world):
    person = world["special_user"]
    delete_limits(quota=person.quota, actor=None)
    assert resolve_limits(person=person).value("gpueq") == 2
    assert Event.objects.filter(verb="remove", owner=person).get().before["gpueq"] == 4
    with pytest.raises(InvalidInput, match="The defaults stay"):
        delete_limits(quota=Quota.objects.get(layer="defaults"), actor=None)


def test_the_database_keeps_one_layer_for_each_subject(world):
    students = Group.objects.get(name="students")
    for values in (
        {"layer": "defaults"},
        {"layer": "group"},
        {"layer": "group", "group": students},
        {"layer": "person", "group": students},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            Quota.objects.create(**values)


def test_a_fresh_portal_has_four_groups_with_limits():
    expected = {
        "student": (2, 2, 3, 32, 32 * GB, 24 * HOUR, HOUR / 2),
        "researcher": (4, 3, 5, 48, 64 * GB, 48 * HOUR, HOUR),
        "faculty": (4, 4, 5, 64, 128 * GB, 72 * HOUR, 2 * HOUR),
        "admin": (UNLIMITED, UNLIMITED, 10, 64, 128 * GB, 24 * HOUR, HOUR),
    }
    names = ("gpueq", "devices_per_container", "containers", "cpus", "memory")
    for group, values in expected.items():
        limits = resolve_limits(person=make_person(f"a-{group}", group))
        found = tuple(limits.value(name) for name in (*names, "max_runtime", "idle_timeout"))
        assert found == values
        assert UNSET not in {limits.value(name) for name in LIMIT_NAMES}
    assert resolve_limits(person=make_person("nobody")).group == "student"
