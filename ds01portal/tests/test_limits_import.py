"""DS01's limits files are read as they are, and every key gets an answer."""

import json

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from ds01portal.ds01_layers import Fate
from ds01portal.ds01_limits import parse_limits
from ds01portal.exceptions import InvalidInput
from ds01portal.limits import LIMIT_NAMES, UNLIMITED, UNSET
from ds01portal.models import Event, Person, Quota
from ds01portal.services.limits_import import import_limits
from ds01portal.services.quotas import find_quota, resolve_limits, set_limits

GB = 1024**3

FILE = """\
# limits of a small machine
defaults:
  max_gpu_equivalents: 1.0
  max_gpu_slots_per_container: 1
  allow_full_gpu: true
  max_cpus: 32
  memory: 32g
  memory_swap: 32g
  shm_size: 16g
  pids_limit: 4096
  max_containers_per_user: 3
  max_runtime_h: 24
  idle_timeout_h: 0.5
  gpu_hold_after_stop_h: 0.25
  container_hold_after_stop_h: 0.5
  max_tasks: 32768
default_group: student
enforcement:
  aggregate_limits: true
groups:
  student:
    max_gpu_equivalents: 2.0
    max_gpu_slots_per_container: 2
    aggregate:
      cpu_quota: "9600%"
      memory_max: "96G"
      memory_high: "86G"
      tasks_max: 12288
      gpu_limit: 2.0
    policies:
      gpu_idle_threshold: 5
      cpu_idle_threshold: 2.0
  guest:
  admin:
    max_gpu_slots_per_container: null
    max_gpu_equivalents: null
    memory: 128g
    memory_swap: 160g
    max_containers_per_user: 10
    max_tasks: null
gpu_allocation:
policies:
  grace_period_m: 30
  keepalive_max_duration_h: 24
container_types:
  devcontainer:
    idle_timeout_h: null
    max_runtime_h: 168
monitoring:
  infrastructure_containers:
    - exporter
surprise: 1
"""


def limits_of(name, group=None):
    person = Person.objects.create(username=name)
    if group:
        person.groups.add(Group.objects.get(name=group))
    return resolve_limits(person=person)


def with_defaults(more):
    return "defaults:\n" + "".join(f"  {line}\n" for line in more.splitlines())


# The file alone --------------------------------------------------------------------------------


def test_every_key_of_the_file_gets_an_answer():
    fates = {note.path: note.fate for note in parse_limits(FILE).notes}
    used, stored, ignored = Fate.USED, Fate.STORED, Fate.IGNORED
    assert fates["defaults.max_gpu_equivalents"] is used
    assert fates["defaults.memory_swap"] is used
    assert fates["defaults.allow_full_gpu"] is ignored
    assert fates["defaults.max_tasks"] is ignored
    assert fates["groups.student.aggregate.cpu_quota"] is used
    assert fates["groups.student.aggregate.memory_high"] is ignored
    assert fates["groups.student.policies.gpu_idle_threshold"] is stored
    assert fates["groups.guest"] is used
    assert fates["groups.admin.max_tasks"] is ignored
    assert fates["gpu_allocation"] is ignored
    assert fates["policies.grace_period_m"] is stored
    assert fates["policies.keepalive_max_duration_h"] is ignored
    assert fates["container_types.devcontainer.idle_timeout_h"] is stored
    assert fates["monitoring.infrastructure_containers"] is ignored
    assert fates["surprise"] is ignored
    leaves = [line for line in FILE.splitlines() if ":" in line]
    sections = {"defaults", "groups", "aggregate", "policies", "container_types", "monitoring"}
    sections |= {"enforcement", "devcontainer"}
    keys = [line.split(":")[0].strip() for line in leaves]
    answered = [path.rpartition(".")[2] for path in fates]
    for key in set(keys) - sections:
        assert answered.count(key) == keys.count(key), key


def test_every_note_has_its_line():
    lines = FILE.splitlines()
    for note in parse_limits(FILE).notes:
        if "not set:" not in note.detail:
            assert note.path.rpartition(".")[2] in lines[note.line - 1]


def test_null_is_unlimited_missing_is_unset_zero_is_zero():
    text = with_defaults("max_runtime_h: null\nidle_timeout_h: 0\nmax_gpu_equivalents: 0")
    limits = parse_limits(text).defaults.limits
    assert limits["max_runtime"] is UNLIMITED
    assert (limits["idle_timeout"], limits["gpueq"]) == (0, 0)
    assert "memory" not in limits


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("max_gpu_slots: 2", "gpueq", 2),
        ("max_mig_instances: 3", "gpueq", 3),
        ("max_gpus_per_user: 4", "gpueq", 4),
        ("max_gpus_per_container: 2", "devices_per_container", 2),
        ("max_mig_per_container: 3", "devices_per_container", 3),
        ("cpus: 16", "cpus", 16),
        ("max_cpus: '0.5'", "cpus", 0.5),
        ("memory: 512m", "memory", GB // 2),
        ("memory: 1073741824", "memory", GB),
        ("max_runtime_h: 24", "max_runtime", 86_400),
        ("max_runtime_h: 0.25", "max_runtime", 900),
        ("max_runtime_h: '24h'", "max_runtime", 86_400),
        ("max_runtime_h: '24'", "max_runtime", 86_400),
        ("max_runtime: 7d", "max_runtime", 604_800),
        ("idle_timeout: 48h", "idle_timeout", 172_800),
        ("gpu_hold_after_stop: never", "gpu_hold", UNLIMITED),
        ("storage_workspace: 100G", "disk", 100 * GB),
    ],
)
def test_older_names_and_other_spellings_are_read(line, name, value):
    assert parse_limits(with_defaults(line)).defaults.limits[name] == value


def test_the_current_name_counts_before_older_ones():
    result = parse_limits(with_defaults("max_mig_instances: 7\nmax_gpu_equivalents: 2"))
    assert result.defaults.limits["gpueq"] == 2
    ignored = next(note for note in result.notes if note.path == "defaults.max_mig_instances")
    assert (ignored.fate, ignored.line) == (Fate.IGNORED, 2)


@pytest.mark.parametrize(
    ("lines", "swap"),
    [
        ("memory: 32g\nmemory_swap: 32g", 0),
        ("memory: 32g\nmemory_swap: 48g", 16 * GB),
        ("memory_swap: 33g\nmemory: 32g", GB),
        ("memory: 32g\nmemory_swap: null", UNLIMITED),
        ("memory: null\nmemory_swap: null", UNLIMITED),
    ],
)
def test_swap_is_what_comes_on_top_of_memory(lines, swap):
    assert parse_limits(with_defaults(lines)).defaults.limits["swap"] == swap


def test_a_group_s_swap_is_counted_from_the_memory_it_inherits():
    text = with_defaults("memory: 32g") + "groups:\n  a:\n    memory_swap: 40g\n"
    assert parse_limits(text).groups["a"].limits["swap"] == 8 * GB


def test_of_two_gpu_limits_the_lower_counts():
    text = with_defaults("memory: 1g") + (
        "groups:\n"
        "  a: {max_gpu_equivalents: 4, aggregate: {gpu_limit: 2}}\n"
        "  b: {max_gpu_equivalents: 2, aggregate: {gpu_limit: 4}}\n"
        "  c: {max_gpu_equivalents: null, aggregate: {gpu_limit: 3}}\n"
        "  d: {max_gpu_equivalents: 3, aggregate: {gpu_limit: null}}\n"
    )
    groups = parse_limits(text).groups
    assert [groups[name].limits["gpueq"] for name in "abcd"] == [2, 2, 3, 3]


# Into the database -----------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_student_gets_what_the_file_says():
    import_limits(text=FILE)
    limits = limits_of("alice", "student")
    expected = {
        "gpueq": 2,
        "devices_per_container": 2,
        "containers": 3,
        "cpus": 32,
        "memory": 32 * GB,
        "swap": 0,
        "total_cpus": 96,
        "total_memory": 96 * GB,
        "max_runtime": 86_400,
        "idle_timeout": 1800,
        "gpu_hold": 900,
        "container_hold": 1800,
    }
    assert {name: limits.value(name) for name in expected} == expected
    nobody = limits_of("nobody")
    assert nobody.group == "student"


@pytest.mark.django_db
def test_unlimited_stays_unlimited_and_a_group_without_totals_has_no_bound():
    import_limits(text=FILE)
    limits = limits_of("dean", "admin")
    names = ("gpueq", "devices_per_container", "total_cpus", "total_memory")
    assert [limits.value(name) for name in names] == [UNLIMITED] * 4
    assert limits.value("swap") == 32 * GB
    assert limits_of("gast", "guest").value("gpueq") == 1


@pytest.mark.django_db
def test_policies_are_kept_with_their_layer():
    import_limits(text=FILE)
    assert find_quota(subject=None).policies == {
        "default_group": "student",
        "grace_period_m": 30,
        "container_types": {"devcontainer": {"idle_timeout": "unlimited", "max_runtime": 604_800}},
    }
    student = find_quota(subject=Group.objects.get(name="student"))
    assert student.policies == {"gpu_idle_threshold": 5, "cpu_idle_threshold": 2.0}


@pytest.mark.django_db
def test_what_the_file_no_longer_names_is_unset_and_what_it_has_no_word_for_stays():
    group = Group.objects.get(name="faculty")
    set_limits(subject=group, values={"images": 7}, actor=None)
    report = import_limits(text=with_defaults("memory: 1g") + "groups:\n  faculty:\n    cpus: 2\n")
    quota = find_quota(subject=group)
    assert (quota.cpus, quota.images, quota.memory, quota.gpueq) == (2, 7, UNSET, UNSET)
    changed = {(change.layer, change.limit) for change in report.changes}
    assert ("groups.faculty", "gpueq") in changed
    assert ("groups.faculty", "images") not in changed
    assert find_quota(subject=Group.objects.get(name="student")).gpueq == 2


@pytest.mark.django_db
def test_limits_that_nobody_sets_are_named():
    report = import_limits(text=with_defaults("memory: 1g"))
    assert any("gpueq is not set in defaults" in warning for warning in report.warnings)
    assert limits_of("bob").value("pids") is UNSET


@pytest.mark.django_db
def test_importing_twice_changes_nothing_the_second_time():
    first = import_limits(text=FILE)
    assert first.new_groups == ["guest"]
    rows, events = list(Quota.objects.values()), Event.objects.count()
    second = import_limits(text=FILE)
    assert (second.changes, second.new_groups) == ([], [])
    assert (list(Quota.objects.values()), Event.objects.count()) == (rows, events)


@pytest.mark.django_db
def test_the_first_group_of_the_file_decides_for_members_of_several():
    import_limits(text=FILE)
    person = Person.objects.create(username="both")
    person.groups.set(Group.objects.filter(name__in=("admin", "student")))
    assert resolve_limits(person=person).group == "student"


@pytest.mark.django_db
def test_personal_overrides_reach_people_by_username_or_host_login():
    Person.objects.create(username="alice")
    Person.objects.create(username="bob", system_login="b.ob@lan")
    text = FILE + (
        "user_overrides:\n"
        "  alice: {max_gpu_equivalents: 4, reason: thesis, expires_on: 2999-01-31, priority: 90}\n"
        "  b.ob@lan:\n    max_cpus: 4\n"
        "  stranger:\n    max_cpus: 4\n"
    )
    report = import_limits(text=text)
    alice = resolve_limits(person=Person.objects.get(username="alice"))
    assert (alice.value("gpueq"), alice.value("devices_per_container")) == (4, 2)
    assert alice.limits["gpueq"].expires_at.year == 2999
    assert Quota.objects.get(person__username="alice").reason == "thesis"
    assert resolve_limits(person=Person.objects.get(username="bob")).value("cpus") == 4
    note = next(note for note in report.notes if note.path == "user_overrides.stranger.max_cpus")
    assert (note.fate, note.line) == (Fate.IGNORED, 58)
    assert any("there is no person “stranger”" in warning for warning in report.warnings)


@pytest.mark.django_db
def test_an_override_that_has_ended_does_not_count():
    alice = Person.objects.create(username="alice")
    text = FILE + "user_overrides:\n  alice: {max_cpus: 4, expires_on: '2020-01-31T10:00:00Z'}\n"
    import_limits(text=text)
    assert resolve_limits(person=alice, now=timezone.now()).value("cpus") == 32


# Commands --------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_trial_run_says_all_and_changes_nothing(tmp_path, capsys):
    file = tmp_path / "limits.yaml"
    file.write_text(FILE)
    before = list(Quota.objects.values())
    call_command("import_limits", str(file), "--dry-run", "--json")
    report = json.loads(capsys.readouterr().out)
    assert report["applied"] is False
    assert report["new_groups"] == ["guest"]
    assert {key["fate"] for key in report["keys"]} == {"used", "stored", "ignored"}
    assert list(Quota.objects.values()) == before
    assert not Group.objects.filter(name="guest").exists()


@pytest.mark.django_db
def test_the_commands_print_for_people(tmp_path, capsys):
    file = tmp_path / "limits.yaml"
    file.write_text(FILE)
    call_command("import_limits", str(file))
    out = capsys.readouterr().out
    assert "used     groups.student.max_gpu_equivalents: gpueq = 2" in out
    assert "change  groups.admin: swap 0 B → 32 GB" in out
    limits_of("alice", "student")
    call_command("show_limits", "alice")
    out = capsys.readouterr().out
    assert "alice (group student)" in out
    assert "GPUs                                     2   group student" in out
    call_command("show_limits", "alice", "--json")
    data = json.loads(capsys.readouterr().out)
    assert data["limits"]["max_runtime"]["value"] == 86_400
    assert tuple(data["limits"]) == LIMIT_NAMES


@pytest.mark.django_db
def test_limits_of_an_unknown_person_are_refused(capsys):
    with pytest.raises(CommandError, match="no person “ghost”") as caught:
        call_command("show_limits", "ghost", "--json")
    assert caught.value.returncode == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "not-found"


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a]\ndefaults: {c: [*b,*b,*b,*b]}\n"
BAD_FILES = [
    ("", 1, "the file is empty"),
    ("# only a comment\n", 1, "the file is empty"),
    ("groups: {}\n", 1, "no section “defaults”"),
    ("- a\n- b\n", 1, "the file must be a section"),
    ("just text\n", 1, "the file must be a section"),
    ("defaults:\n  memory: [32g\n", 3, "this is not YAML"),
    ("defaults:\n\tmemory: 32g\n", 2, "this is not YAML"),
    ("defaults:\n  memory: 32g\n   cpus: 4\n", 3, "this is not YAML"),
    ("defaults: {}\n\x07\n", 2, "this is not YAML"),
    (BOMB, 1, "anchors and aliases"),
    ("defaults:\n  <<: {cpus: 1}\n", 2, "a key is not plain text"),
    ("defaults:\n  ? [a, b]\n  : 1\n", 2, "a key is not plain text"),
    ("defaults: !!python/object/apply:os.system ['id']\n", 1, "the tag"),
    ("defaults: {}\n---\ndefaults: {}\n", 2, "a second document"),
    ("defaults: " + "[" * 5000 + "]" * 5000 + "\n", 1, "nested more than"),
    ("defaults:\n  cpus: 1\n  cpus: 2\n", 3, "“cpus” is there twice (first in line 2)"),
    ("defaults: {}\ngroups: {}\ndefaults: {}\n", 3, "“defaults” is there twice"),
    ("defaults: 5\n", 1, "defaults must be a section"),
    ("defaults: {}\ngroups: [student]\n", 2, "groups must be a section"),
    ("defaults: {}\ngroups:\n  student: 5\n", 3, "groups.student must be a section"),
    ("defaults: {}\ngroups:\n  a:\n    aggregate: 9\n", 4, "aggregate must be a section"),
    ("defaults: {}\ngroups:\n  a:\n    policies: [5]\n", 4, "policies must be a section"),
    ("defaults:\n  max_cpus: many\n", 2, "is not a number of cores"),
    ("defaults:\n  max_cpus: -4\n", 2, "-4 is not possible"),
    ("defaults:\n  max_cpus: .nan\n", 2, "is not a plain number"),
    ("defaults:\n  max_cpus: .inf\n", 2, "is not a plain number"),
    ("defaults:\n  max_cpus: 1e999\n", 2, "is not a number of cores"),
    ("defaults:\n  max_cpus: yes\n", 2, "must be a number, not yes or no"),
    ("defaults:\n  max_cpus: [4]\n", 2, "must be a number, not a list"),
    ("defaults:\n  max_cpus: {a: 4}\n", 2, "must be a number, not a section"),
    ("defaults:\n  max_cpus: ''\n", 2, "is empty text"),
    ("defaults:\n  max_cpus: 010\n", 2, "is not a plain whole number"),
    ("defaults:\n  max_cpus: 1:30\n", 2, "is not a plain whole number"),
    ("defaults:\n  max_containers_per_user: 2.5\n", 2, "is not a whole number"),
    ("defaults:\n  max_gpu_equivalents: nan\n", 2, "is not a number"),
    ("defaults:\n  memory: 32 potatoes\n", 2, "is not a size"),
    ("defaults:\n  memory: 99999999999t\n", 2, "is not a size"),
    ("defaults:\n  memory: -32g\n", 2, "is not a size"),
    ("defaults:\n  memory: 32g\n  memory_swap: 16g\n", 3, "memory_swap is less than memory"),
    ("defaults:\n  memory: null\n  memory_swap: 16g\n", 3, "is a number, but memory is not"),
    ("defaults:\n  max_runtime_h: soon\n", 2, "is not a duration"),
    ("defaults:\n  max_runtime_h: 1.2.3\n", 2, "is not a duration"),
    ("defaults:\n  idle_timeout_h: -0.5\n", 2, "is not possible"),
    ("defaults: {}\ngroups:\n  a:\n    aggregate:\n      cpu_quota: 96\n", 5, "percentage"),
    ("defaults: {}\npolicies:\n  grace_period_m: soon\n", 3, "must be a number, not text"),
    ("defaults: {}\ndefault_group: [a]\n", 2, "must be the name of a group"),
    ("defaults: {}\ndefault_group: wizards\n", 2, "there is no group “wizards”"),
    ("defaults: {}\nuser_overrides:\n  a: {expires_on: soon}\n", 3, "is not a date"),
    ("defaults: {}\ngroups:\n  '': {}\n", 3, "empty or too long"),
    ("defaults:\n  memory: 32g\xff\n".encode("latin-1"), 2, "the file is not UTF-8"),
    ("a: 1\n" * 300_000, 1, "more than"),
]


@pytest.mark.django_db
@pytest.mark.parametrize(("text", "line", "message"), BAD_FILES)
def test_a_bad_file_is_refused_with_its_line_and_changes_nothing(
    tmp_path, capsys, text, line, message
):
    before = list(Quota.objects.values())
    file = tmp_path / "limits.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CommandError) as caught:
        call_command("import_limits", str(file), "--json")
    assert caught.value.returncode == 1
    assert str(caught.value).startswith(f"Line {line}: "), str(caught.value)
    assert message in str(caught.value)
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["fields"]["line"]) == ("invalid-input", line)
    assert list(Quota.objects.values()) == before
    assert not Event.objects.exists()


@pytest.mark.django_db
def test_a_trouble_late_in_the_file_leaves_the_early_part_undone():
    before = list(Quota.objects.values())
    text = FILE.replace("default_group: student", "default_group: wizards")
    with pytest.raises(InvalidInput, match="Line 17: default_group"):
        import_limits(text=text.replace("2.0", "9.0"))
    assert list(Quota.objects.values()) == before
    assert not Group.objects.filter(name="guest").exists()
