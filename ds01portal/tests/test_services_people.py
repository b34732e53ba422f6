"""People get an identity: the host's when it knows them, else one of their own, for good."""

import json
import os
import pwd
import subprocess
import sys
from urllib.parse import quote

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import IntegrityError, connection, transaction

from ds01portal.exceptions import InvalidInput, RefusedError
from ds01portal.models import Event, Person
from ds01portal.services import linux_identities
from ds01portal.services.people import create_person, ensure_identity, find_person, set_group
from ds01portal.services.people_import import Outcome, import_users

pytestmark = pytest.mark.django_db


@pytest.fixture
def host(monkeypatch):
    """A user database of the host: login → entry."""
    logins: dict[str, pwd.struct_passwd] = {}

    def add(name, uid, gid, home=""):
        logins[name] = pwd.struct_passwd((name, "x", uid, gid, "", home or f"/home/{name}", "sh"))

    def by_number(uid):
        for entry in logins.values():
            if entry.pw_uid == uid:
                return entry
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwnam", logins.__getitem__)
    monkeypatch.setattr(pwd, "getpwuid", by_number)
    return add


@pytest.fixture
def alice(host):
    return create_person(username="alice", email="alice@example.org", group="student", actor=None)


def test_a_login_that_the_host_knows_keeps_its_numbers_and_home(host):
    host("h.baker@example.lan", 1_722_830_498, 1_722_800_513, "/home/h.baker@example.lan")
    person = create_person(username="h.baker@example.lan", group="researcher", actor=None)
    person.refresh_from_db()
    assert (person.uid, person.gid) == (1_722_830_498, 1_722_800_513)
    assert person.linux_name == "h_baker"
    assert person.system_login == person.login == "h.baker@example.lan"
    assert person.home == "/home/h.baker@example.lan"


def test_only_the_exact_login_counts(host):
    host("h.baker", 1500, 1500)
    person = create_person(username="h.baker@elsewhere.org", actor=None)
    assert person.uid == 200_000
    assert person.system_login == ""


def test_unknown_people_get_numbers_from_the_range_one_after_the_other(host, settings):
    settings.DS01_UID_RANGE = "5000-5003"
    host("system", 5001, 5001)
    numbers = [create_person(username=name, actor=None).uid for name in ("a", "b", "c")]
    assert numbers == [5000, 5002, 5003]
    with pytest.raises(RefusedError, match="All user ids of DS01_UID_RANGE=5000-5003 are used"):
        create_person(username="d", actor=None)
    assert not Person.objects.filter(username="d").exists()


def test_a_number_is_never_given_to_a_second_person(host, alice):
    first = alice.uid
    alice.delete()
    assert create_person(username="bob", actor=None).uid == first + 1


def test_an_identity_is_kept_for_good(host, alice):
    numbers = (alice.uid, alice.gid, alice.linux_name)
    host("alice", 7000, 7000)
    again = ensure_identity(person=Person.objects.get(pk=alice.pk))
    assert (again.uid, again.gid, again.linux_name) == numbers
    assert Event.objects.filter(verb="identify").count() == 1


def test_names_of_two_domains_do_not_collide(host):
    names = [
        create_person(username=username, actor=None).linux_name
        for username in ("h.baker@a", "h_baker@b", "H.Baker@c")
    ]
    assert names == ["h_baker", "h_baker-2", "h_baker-3"]


def test_nobody_becomes_root_by_name(host):
    assert create_person(username="root@example.org", actor=None).linux_name == "root-2"


@pytest.mark.parametrize(
    ("uid", "gid", "message"),
    [
        (0, 0, "belongs to the system"),
        (999, 999, "belongs to the system"),
        (65_534, 65_534, "belongs to the system"),
        (1500, 0, "main group on the host is root's"),
    ],
)
def test_system_users_are_refused(host, uid, gid, message):
    host("backup", uid, gid)
    with pytest.raises(InvalidInput, match=message):
        create_person(username="backup", actor=None)
    assert not Person.objects.exists()


def test_two_logins_with_one_number_are_refused_with_the_other_name(host):
    host("h.baker", 1500, 1500)
    host("helen", 1500, 1500)
    create_person(username="h.baker", actor=None)
    with pytest.raises(InvalidInput, match=r"the uid 1500 is h\.baker's already"):
        create_person(username="helen", actor=None)


def test_a_number_taken_in_between_is_chosen_again(host, alice, monkeypatch):
    answers = [alice.uid, alice.uid + 1]
    monkeypatch.setattr(linux_identities, "_find_free_uid", lambda: answers.pop(0))
    assert create_person(username="bob", actor=None).uid == alice.uid + 1


def test_the_database_itself_refuses_system_numbers_and_duplicates(host, alice):
    bob = create_person(username="bob", actor=None)
    for values in ({"uid": 999}, {"uid": alice.uid}, {"gid": 0}, {"linux_name": "alice"}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Person.objects.filter(pk=bob.pk).update(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"username": "ali ce"}, "is not a username"),
        ({"username": ""}, "is not a username"),
        ({"username": "a" * 151}, "is not a username"),
        ({"username": "../etc"}, "is not a username"),
        ({"username": "ALICE"}, "There is already a person “alice”"),
        ({"email": "nonsense"}, "is not an e-mail address"),
        ({"email": "Alice@Example.org"}, "is alice's already"),
        ({"group": "wizards"}, "no group “wizards”. Groups: admin, faculty, researcher, student"),
        ({"uid": 12}, "belongs to the system"),
        ({"uid": 200_000}, "the uid 200000 is alice's already"),
        ({"uid": 1234, "gid": 27}, "the gid 27 belongs to the system"),
    ],
)
def test_a_person_who_cannot_be_is_refused_and_nothing_changes(host, alice, values, message):
    with pytest.raises(InvalidInput, match=message):
        create_person(**({"username": "bob", "group": "student"} | values), actor=None)
    assert list(Person.objects.values_list("username", flat=True)) == ["alice"]
    assert not Event.objects.exclude(owner=alice).exists()


def test_admins_get_all_rights_and_lose_them_with_the_group(host, alice):
    root = create_person(username="dean", group="admin", actor=None)
    assert root.is_staff and root.is_superuser
    set_group(person=alice, group="admin", actor=root)
    assert Person.objects.get(pk=alice.pk).is_superuser
    set_group(person=alice, group="student", actor=root)
    alice.refresh_from_db()
    assert not alice.is_superuser and not alice.is_staff
    event = Event.objects.filter(owner=alice, verb="set group").order_by("-id")[0]
    assert event.before == {"groups": ["admin"], "is_superuser": True}
    assert event.after == {"groups": ["student"], "is_superuser": False}
    assert event.actor == root
    with pytest.raises(InvalidInput, match="dean is the last admin"):
        set_group(person=root, group="student", actor=root)


def test_a_group_without_limits_is_left_alone(host, alice):
    alice.groups.add(Group.objects.create(name="choir"))
    assert set_group(person=alice, group="faculty", actor=None)
    assert not set_group(person=alice, group="faculty", actor=None)
    assert sorted(alice.groups.values_list("name", flat=True)) == ["choir", "faculty"]


def test_somebody_is_found_by_username_or_host_login(host):
    host("h.baker", 1500, 1500)
    person = create_person(username="h.baker", actor=None)
    Person.objects.filter(pk=person.pk).update(username="helen")
    assert find_person(username="helen") == find_person(username="h.baker") == person


# Import ----------------------------------------------------------------------------------------

GOOD = """username,email,group,uid,gid
alice,alice@example.org,student,,
bob,bob@example.org,researcher,4001,4002
dean,dean@example.org,admin,,
"""


def test_a_file_creates_people_and_a_second_time_changes_nothing(host):
    report = import_users(text=GOOD)
    assert [(line.line, line.outcome) for line in report.lines] == [
        (2, Outcome.CREATED),
        (3, Outcome.CREATED),
        (4, Outcome.CREATED),
    ]
    bob = Person.objects.get(username="bob")
    assert (bob.uid, bob.gid) == (4001, 4002)
    assert not bob.has_usable_password()
    assert Person.objects.get(username="dean").is_superuser
    before = Event.objects.count()
    again = import_users(text=GOOD)
    assert again.count(Outcome.UNCHANGED) == 3
    assert Event.objects.count() == before


def test_a_changed_line_updates_and_says_what(host):
    import_users(text=GOOD)
    report = import_users(text="username,email,group\nalice,new@example.org,faculty\n")
    assert report.lines[0].outcome is Outcome.UPDATED
    assert report.lines[0].detail == "e-mail new@example.org, group faculty"


def test_spreadsheets_with_semicolons_and_a_byte_order_mark_are_read(host):
    text = '\ufeffUsername;Email;Group\r\n\r\n"alice";alice@example.org;student\r\n'
    report = import_users(text=text.encode())
    assert [line.line for line in report.lines] == [3]
    assert report.applied


def test_a_trial_run_finds_all_and_changes_nothing(host):
    report = import_users(text=GOOD, dry_run=True)
    assert report.count(Outcome.CREATED) == 3
    assert not report.applied
    assert not Person.objects.exists()
    assert not Event.objects.exists()


HEADER = b"username,email,group,uid,gid\n"
BAD_FILES = [
    (b"", 1, "the file is empty"),
    (b"\n \n", 1, "the file is empty"),
    (HEADER, 1, "nobody below it"),
    (b"name,email,group\nx,,student\n", 1, "columns are missing: username"),
    (b"username,email\nx,\n", 1, "columns are missing: group"),
    (b"username,email,group,role\nx,,student,a\n", 1, "unknown columns: role"),
    (b"username,email,group,group\nx,,student,a\n", 1, "columns are there twice: group"),
    (HEADER + b"eve,,student\n", 2, "3 fields instead of 5"),
    (HEADER + b"eve,,student,,,,\n", 2, "7 fields instead of 5"),
    (HEADER + b",,student,,\n", 2, "the username is empty"),
    (HEADER + b"eve,,,,\n", 2, "the group is empty"),
    (HEADER + b"eve,,wizards,,\n", 2, "no group"),
    (HEADER + b"e ve,,student,,\n", 2, "is not a username"),
    (HEADER + b"eve;rm,,student,,\n", 2, "is not a username"),
    (HEADER + b"eve,e@,student,,\n", 2, "is not an e-mail address"),
    (HEADER + b"eve,bob@example.org,student,,\n", 2, "is bob's already"),
    (HEADER + b"eve,,student,abc,\n", 2, "is not a number"),
    (HEADER + b"eve,,student,-5,\n", 2, "is not a number"),
    (HEADER + b"eve,,student,1.5,\n", 2, "is not a number"),
    (HEADER + b"eve,,student,99999999999999,\n", 2, "is not a number"),
    (HEADER + b"eve,,student,0,\n", 2, "belongs to the system"),
    (HEADER + b"eve,,student,999,\n", 2, "belongs to the system"),
    (HEADER + b"eve,,student,65534,\n", 2, "belongs to the system"),
    (HEADER + b"eve,,student,4294967295,\n", 2, "belongs to the system"),
    (HEADER + b"eve,,student,3000,0\n", 2, "belongs to the system"),
    (HEADER + b"eve,,student,4001,\n", 2, "the uid 4001 is bob's already"),
    (HEADER + b"eve,,student,1777,\n", 2, "the uid 1777 is carol's already"),
    (HEADER + b"root,,student,,\n", 2, "belongs to the system"),
    (HEADER + b"bob,bob@example.org,student,4005,\n", 2, "has the uid 4001 already, not 4005"),
    (HEADER + b"eve,,student,,\nEVE,,student,,\n", 3, "in line 2 already"),
    (HEADER + b"eve,,student,3000,\nfay,,student,3000,\n", 3, "the uid 3000 is in line 2 already"),
    (HEADER + b"eve,,student,,\nf\xfcr,,student,,\n", 3, "the file is not UTF-8"),
    (HEADER + b"eve,,student,,\nf\x00r,,student,,\n", 3, "NUL character"),
    (HEADER + b'eve,"unclosed,student,,\n', 2, "not readable as CSV"),
    (HEADER + b'eve,"a"b,student,,\n', 2, "not readable as CSV"),
]


@pytest.mark.parametrize(("data", "line", "message"), BAD_FILES)
def test_a_bad_file_is_refused_with_its_line_and_changes_nothing(
    host, tmp_path, capsys, data, line, message
):
    host("root", 0, 0)
    host("carol", 1777, 1777)
    import_users(text="username,email,group,uid\nbob,bob@example.org,student,4001\n")
    before = (list(Person.objects.values()), Event.objects.count())
    file = tmp_path / "people.csv"
    file.write_bytes(data)
    with pytest.raises(CommandError, match="Nothing was changed") as caught:
        call_command("import_users", str(file), "--json")
    assert caught.value.returncode == 1
    report = json.loads(capsys.readouterr().out)
    refused = [one for one in report["lines"] if one["outcome"] == "refused"]
    assert any(one["line"] == line and message in one["detail"] for one in refused), refused
    assert not report["applied"]
    assert (list(Person.objects.values()), Event.objects.count()) == before


def test_every_problem_of_a_file_is_reported_at_once(host):
    text = "username,email,group\na b,,student\ngood,,student\nx,,nowhere\ny,bad,student\n"
    report = import_users(text=text)
    assert [(line.line, line.outcome.value) for line in report.lines] == [
        (2, "refused"),
        (3, "created"),
        (4, "refused"),
        (5, "refused"),
    ]
    assert not Person.objects.exists()


def test_the_command_says_what_it_did(host, tmp_path, capsys):
    file = tmp_path / "people.csv"
    file.write_text(GOOD)
    call_command("import_users", str(file), "--dry-run")
    assert "Trial run, nothing was changed: 3 created" in capsys.readouterr().out
    call_command("import_users", str(file))
    assert "line 3: created bob: uid 4001, gid 4002, Linux name bob" in capsys.readouterr().out
    with pytest.raises(CommandError, match="cannot be read: No such file"):
        call_command("import_users", str(tmp_path / "missing.csv"))


# Races -----------------------------------------------------------------------------------------

CREATE_TEN = """
import django, sys
django.setup()
from ds01portal.services.people import create_person
for number in range(10):
    create_person(username=f"{sys.argv[1]}.{number}@race", group="student", actor=None)
    create_person(username=f"same.name@{sys.argv[1]}{number}", actor=None)
"""


@pytest.mark.race
@pytest.mark.django_db(transaction=True, serialized_rollback=True)
def test_four_processes_never_give_one_number_or_name_twice(tmp_path):
    url = f"sqlite:///{tmp_path / 'race.sqlite3'}"
    if connection.vendor == "postgresql":
        values = connection.settings_dict
        user = f"{quote(values['USER'], safe='')}:{quote(values['PASSWORD'] or '', safe='')}"
        host = f"{quote(values['HOST'], safe='')}:{values['PORT'] or 5432}"
        url = f"postgresql://{user}@{host}/{values['NAME']}"
    environment = os.environ | {
        "DATABASE_URL": url,
        "DEBUG": "true",
        "DJANGO_SETTINGS_MODULE": "ds01portal.settings",
    }
    manage = [sys.executable, "manage.py"]
    if connection.vendor == "sqlite":
        subprocess.run(
            [*manage, "migrate", "ds01portal", "--skip-checks", "-v0"], env=environment, check=True
        )
    racers = [
        subprocess.Popen([sys.executable, "-c", CREATE_TEN, name], env=environment)
        for name in ("north", "south", "east", "west")
    ]
    assert [racer.wait(timeout=120) for racer in racers] == [0, 0, 0, 0]
    script = (
        "from ds01portal.models import Person; import json;"
        "print(json.dumps(list(Person.objects.values_list('uid', 'linux_name'))))"
    )
    done = subprocess.run(
        [*manage, "shell", "--no-imports", "-c", script],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    rows = json.loads(done.stdout)
    assert len(rows) == 80
    assert len({uid for uid, _name in rows}) == len({name for _uid, name in rows}) == 80
