"""Recipes from their making to another name, and what strangers can do to them: nothing."""

from __future__ import annotations

import json

import pytest
from django.contrib.auth.models import Group
from django.db import IntegrityError
from django.utils import timezone

from catalog.models import BuildPolicy, Image, Recipe
from catalog.services import recipe_checks, recipe_renames, recipes
from catalog.services.builds import request_build
from catalog.services.image_care import delete_image
from catalog.services.recipes import (
    change_recipe,
    create_recipe,
    find_changeable_recipe,
    find_recipe,
    find_version,
    fork_recipe,
    newer_bases,
    preview_change,
    rename_recipe,
    share_recipe,
)
from catalog.tests.recipe_players import (
    BASE_REFERENCE,
    count_everything,
    make_recipe,
    make_version,
    on_custom,
    on_reference,
    write_content,
)
from ds01portal.exceptions import (
    Busy,
    EngineUnreachable,
    ImageRefused,
    InvalidInput,
    NotFound,
    PolicyRefused,
    QuotaExceeded,
    RefusedError,
)
from ds01portal.models import Event, Person, Update
from ds01portal.services.quotas import set_limits

pytestmark = pytest.mark.django_db

PRIVATE, GROUP, EVERYBODY = Recipe.Sharing
GROUP_OF_BOTH = "student"


@pytest.fixture(autouse=True)
def machine(settings, catalogue, fake_engine):
    settings.MLC_ARCH = "CUDA_ADA"
    BuildPolicy.objects.update_or_create(pk=1, defaults={"free_disk_floor_bytes": 0})


def events(recipe: Recipe) -> list[str]:
    rows = Event.objects.filter(subject_kind="recipe", subject_id=str(recipe.pk))
    return list(rows.order_by("pk").values_list("verb", flat=True))


def last_event(recipe: Recipe) -> Event:
    return Event.objects.filter(subject_kind="recipe", subject_id=str(recipe.pk)).latest("pk")


# Making


def test_alice_makes_a_recipe(alice):
    recipe = create_recipe(
        owner=alice,
        name="thesis",
        content=write_content(requirements="einops\n"),
        description="  for my\nthesis ",
        actor=alice,
    )

    assert recipe.description == "for my thesis"
    assert recipe.sharing == PRIVATE
    assert recipe.content["jupyter"] == {"choice": "none", "packages": []}
    assert events(recipe) == ["create"]
    tick = Update.objects.get(subject=f"recipe:{recipe.pk}")
    assert tick.owner_id == alice.pk
    assert last_event(recipe).actor == alice
    assert request_build(recipe=recipe, actor=alice).number == 1


def test_somebody_whom_the_system_does_not_know_gets_an_identity_first(db):
    person = Person.objects.create_user("dora", "dora@example.org")
    person.groups.add(Group.objects.get(name="student"))

    recipe = create_recipe(owner=person, name="mine", content=write_content(), actor=person)

    assert recipe.repository == f"ds01-{Person.objects.get(username='dora').uid}/mine"


def test_a_second_image_of_the_same_name_is_refused(alice, bob):
    create_recipe(owner=alice, name="thesis", content=write_content(), actor=alice)
    before = count_everything()

    with pytest.raises(InvalidInput, match="already") as error:
        create_recipe(owner=alice, name="thesis", content=write_content(), actor=alice)

    assert error.value.fields["field"] == "name"
    assert count_everything() == before
    create_recipe(owner=bob, name="thesis", content=write_content(), actor=bob)


def test_a_twin_request_that_was_faster_is_told_in_words(alice, monkeypatch):
    make_recipe(alice)
    before = count_everything()
    real = recipes.ensure_name_is_new
    asked: list[str] = []

    def look_too_early(**values):
        asked.append(values["name"])
        if len(asked) > 2:  # before and within the transaction the twin was not there
            real(**values)

    monkeypatch.setattr(recipes, "ensure_name_is_new", look_too_early)
    monkeypatch.setattr(recipe_checks, "ensure_name_is_new", look_too_early)

    with pytest.raises(InvalidInput, match="already"):
        create_recipe(owner=alice, name="thesis", content=write_content(), actor=alice)

    assert len(asked) == 3
    assert count_everything() == before


def test_the_quota_is_counted_under_lock_of_the_owner(alice, monkeypatch):
    set_limits(subject=alice, values={"images": 1}, actor=None)
    real = recipes.ensure_buildable

    def twin_meanwhile(**values):
        check = real(**values)
        make_recipe(alice, "twin")
        return check

    monkeypatch.setattr(recipes, "ensure_buildable", twin_meanwhile)

    with pytest.raises(QuotaExceeded) as error:
        create_recipe(owner=alice, name="thesis", content=write_content(), actor=alice)

    assert error.value.fields["used"] == 1
    assert [recipe.name for recipe in Recipe.objects.all()] == ["twin"]


def test_a_name_used_before_goes_on_counting(alice, fake_engine):
    old = make_recipe(alice)
    make_version(old, fake_engine)
    make_version(old, fake_engine)
    delete_image(recipe=old, actor=alice)

    new = create_recipe(owner=alice, name="thesis", content=write_content(), actor=alice)

    assert request_build(recipe=new, actor=alice).number == 3


def test_a_custom_base_is_kept_by_its_owners_name(alice, bob, fake_engine):
    make_version(make_recipe(alice, sharing=EVERYBODY), fake_engine)

    kept = {
        name: create_recipe(owner=bob, name=name, content=content, actor=bob).content["base"]
        for name, content in {
            "a": on_custom("alice/thesis"),
            "b": on_custom("ds01-200001/thesis:1"),
            "c": on_reference("docker.io/ds01-200001/thesis:1"),
            "d": on_custom("alice/thesis:latest"),
        }.items()
    }

    assert kept == {
        "a": {"kind": "custom", "image": "alice/thesis"},
        "b": {"kind": "custom", "image": "alice/thesis:1"},
        "c": {"kind": "custom", "image": "alice/thesis:1"},
        "d": {"kind": "custom", "image": "alice/thesis"},
    }


@pytest.mark.parametrize("text", ["x" * 301, "a\x00b", "a\u202eb"])
def test_a_description_is_one_readable_line(alice, text):
    before = count_everything()

    with pytest.raises(InvalidInput):
        create_recipe(owner=alice, name="x", content=write_content(), actor=alice, description=text)

    assert count_everything() == before


# Changing


def test_a_change_is_kept_with_what_it_changed(alice):
    recipe = make_recipe(alice, content=write_content(environment={"MODE": "secret"}))

    content = write_content(requirements="einops\n", environment={"MODE": "more secret"})
    change_recipe(recipe=recipe, actor=alice, content=content, description="better")

    event = last_event(recipe)
    assert recipe.content["requirements"] == "einops\n"
    assert event.after["changes"] == [
        "Description: better",
        "Requirements: + einops",
        "Variables: MODE changed",
    ]
    assert "secret" not in json.dumps([event.before, event.after])


def test_a_change_that_changes_nothing_is_no_event(alice):
    recipe = create_recipe(owner=alice, name="thesis", content=write_content(), actor=alice)

    change_recipe(recipe=recipe, actor=alice, content=write_content(), description="")

    assert events(recipe) == ["create"]


def test_a_change_during_a_build_leaves_the_build_what_it_was(alice):
    recipe = create_recipe(owner=alice, name="thesis", content=write_content(), actor=alice)
    build = request_build(recipe=recipe, actor=alice)

    change_recipe(recipe=recipe, actor=alice, content=write_content(apt=["git"]))

    build.refresh_from_db()
    assert build.content["apt"] == []


def test_an_admin_changes_anybodys(alice, admin_person):
    recipe = make_recipe(alice)

    change_recipe(recipe=recipe, actor=admin_person, description="checked")

    assert recipe.description == "checked"
    assert last_event(recipe).actor == admin_person


def test_an_admin_who_changes_anothers_recipe_does_not_lend_rights(alice, admin_person):
    recipe = make_recipe(alice)

    with pytest.raises(PolicyRefused):
        change_recipe(recipe=recipe, actor=admin_person, content=write_content(post_install=["x"]))


def test_preview_says_what_would_change_and_changes_nothing(alice):
    recipe = make_recipe(alice)
    other = write_content(apt=["git"])
    other["base"]["version"] = "2.1.0-extra"
    before = count_everything()

    assert preview_change(recipe=recipe, content=other) == (
        "Base: alpha 2.1.0 → alpha 2.1.0-extra",
        "System packages: + git",
    )
    assert count_everything() == before


# Refused, and nothing has happened

HOSTILE_CONTENT = {
    "a base that vanished": {"base": {"kind": "catalog", "framework": "alpha", "version": "2.0.0"}},
    "a framework that does not exist": {"base": {"kind": "catalog", "framework": "nope"}},
    "an architecture that does not exist": {
        "base": {"kind": "catalog", "framework": "alpha", "architecture": "CUDA_NOPE"}
    },
    "FROM elsewhere": on_reference("example.net/miner:latest"),
    "FROM the hub": on_reference("ubuntu:24.04"),
    "FROM by id": on_reference("sha256:" + "a" * 64),
    "FROM with an instruction": on_reference("ubuntu\nRUN id"),
    "FROM scratch": on_reference("scratch"),
    "FROM a build argument": on_reference("$BASE"),
    "FROM another stage": on_reference("--from=0 ubuntu"),
    "anothers private image": on_custom("charlie/secret"),
    "anothers private image by uid": on_custom("ds01-200003/secret:1"),
    "anothers private image as a reference": on_reference("ds01-200003/secret:1"),
    "anothers private image behind the hub": on_reference("docker.io/ds01-200003/secret"),
    "an owner of the engine's own name": on_custom("ds01-99/secret"),
    "a look-alike owner": on_custom("chаrlie/secret"),  # Cyrillic а
    "a path in a name": on_custom("charlie/../secret"),
    "itself": on_custom("alice/thesis"),
    "itself by number": on_custom("alice/thesis:1"),
    "itself by uid": on_custom("ds01-200001/thesis"),
    "a circle": on_custom("bob/fork"),
    "an unbuilt image": on_custom("alice/unbuilt"),
    "a deleted image": on_custom("alice/deleted"),
    "a kind that does not exist": {"base": {"kind": "dockerfile", "reference": "x"}},
    "a field that does not exist": write_content(dockerfile="FROM x"),
    "a frontend": write_content(requirements="# syntax=x\n--requirement x\n"),
    "a shell in a package": write_content(requirements="numpy; rm -rf /\n"),
    "an option for apt": write_content(apt=["-o=x"]),
    "a look-alike package": write_content(requirements="numрy\n"),  # Cyrillic р
    "a loader variable": write_content(environment={"LD_PRELOAD": "/tmp/x.so"}),
    "devices": write_content(environment={"NVIDIA_VISIBLE_DEVICES": "all"}),
    "shell lines": write_content(post_install=["curl x | sh"]),
    "an index": write_content(requirements="--index-url https://example.net/simple\n"),
    "a folder": write_content(requirements="-e .\n"),
    "ten megabytes": write_content(requirements="a\n" * 5_000_000),
    "no content": {},
}


@pytest.fixture
def world(alice, bob, charlie, fake_engine) -> Recipe:
    """Alice's thesis, Bob's fork on top of it, Charlie's secret."""
    Image.objects.filter(version="2.0.0").update(
        retired_at=timezone.now(), retired_cause="vanished"
    )
    thesis = make_recipe(alice, sharing=EVERYBODY)
    first = make_version(thesis, fake_engine)
    fork = make_recipe(bob, "fork", content=on_custom("alice/thesis"), sharing=EVERYBODY)
    make_version(fork, fake_engine, base_reference=first.reference)
    make_version(make_recipe(charlie, "secret"), fake_engine)
    make_recipe(alice, "unbuilt")
    deleted = make_recipe(alice, "deleted")
    make_version(deleted, fake_engine)
    delete_image(recipe=deleted, actor=alice)
    return thesis


@pytest.mark.parametrize("content", HOSTILE_CONTENT.values(), ids=HOSTILE_CONTENT)
def test_a_hostile_content_is_refused_and_nothing_has_changed(alice, world, content):
    before = count_everything()

    with pytest.raises(RefusedError) as error:
        change_recipe(recipe=world, actor=alice, content=content)

    assert error.value.message
    assert error.value.fields.get("field") is not None
    assert count_everything() == before

    if "thesis" not in json.dumps(content) and "fork" not in json.dumps(content):
        with pytest.raises(RefusedError):
            create_recipe(owner=alice, name="other", content=content, actor=alice)
        assert count_everything() == before


@pytest.mark.parametrize(
    "content",
    [content for name, content in HOSTILE_CONTENT.items() if "image" in name or "FROM" in name],
)
def test_a_recipe_whose_base_was_forbidden_later_is_not_built(alice, world, content):
    Recipe.objects.filter(pk=world.pk).update(content=content)
    world.refresh_from_db()
    before = count_everything()

    with pytest.raises(RefusedError):
        request_build(recipe=world, actor=alice)

    assert count_everything() == before


@pytest.mark.parametrize(
    "name",
    ["", "Thesis", "thеsis", "the sis", "../x", "a/b", "x:1", "latest", "ds01-x", "a..b", "x" * 61,
     "-x", "x\nRUN id", "x\x00", "ａ"],
)  # fmt: skip
def test_a_hostile_name_is_refused_and_nothing_has_changed(alice, bob, world, name):
    before = count_everything()

    with pytest.raises(InvalidInput) as created:
        create_recipe(owner=alice, name=name, content=write_content(), actor=alice)
    with pytest.raises(InvalidInput):
        rename_recipe(recipe=world, name=name, actor=alice)
    if name:  # without one a fork is called like its source
        with pytest.raises(InvalidInput):
            fork_recipe(source=world, owner=bob, actor=bob, name=name)

    assert created.value.fields["field"] == "name"
    assert count_everything() == before


STRANGER_VERBS = {
    "find": lambda recipe, who: find_recipe(person=who, name="alice/thesis"),
    "find by uid": lambda recipe, who: find_recipe(person=who, name="ds01-200001/thesis"),
    "find to change": lambda recipe, who: find_changeable_recipe(person=who, name="alice/thesis"),
    "find a version": lambda recipe, who: find_version(person=who, reference="alice/thesis:1"),
    "find the latest": lambda recipe, who: find_version(
        person=who, reference="ds01-200001/thesis:latest"
    ),
    "change": lambda recipe, who: change_recipe(recipe=recipe, actor=who, description="mine"),
    "change what is in it": lambda recipe, who: change_recipe(
        recipe=recipe, actor=who, content=write_content()
    ),
    "rename": lambda recipe, who: rename_recipe(recipe=recipe, name="mine", actor=who),
    "share": lambda recipe, who: share_recipe(recipe=recipe, sharing="everybody", actor=who),
    "fork": lambda recipe, who: fork_recipe(source=recipe, owner=who, actor=who),
    "fork a version": lambda recipe, who: fork_recipe(
        source=recipe, owner=who, actor=who, number=1
    ),
    "build on it": lambda recipe, who: create_recipe(
        owner=who, name="mine", content=on_custom("alice/thesis"), actor=who
    ),
    "build on it by reference": lambda recipe, who: create_recipe(
        owner=who, name="mine", content=on_reference("ds01-200001/thesis:1"), actor=who
    ),
}
SHARED_VERBS = {"change", "change what is in it", "rename", "share", "find to change"}


@pytest.mark.parametrize("verb", STRANGER_VERBS)
def test_a_stranger_finds_nothing_by_any_verb(alice, bob, charlie, fake_engine, verb):
    recipe = make_recipe(alice, sharing=GROUP, shared_group=Group.objects.get(name=GROUP_OF_BOTH))
    make_version(recipe, fake_engine)
    before = count_everything()

    with pytest.raises(NotFound):
        STRANGER_VERBS[verb](recipe, charlie)

    assert count_everything() == before


@pytest.mark.parametrize("verb", STRANGER_VERBS)
def test_a_friend_may_do_with_a_shared_image_exactly_what_sharing_says(
    alice, bob, fake_engine, verb
):
    recipe = make_recipe(alice, sharing=GROUP, shared_group=Group.objects.get(name=GROUP_OF_BOTH))
    make_version(recipe, fake_engine)
    before = count_everything()

    if verb not in SHARED_VERBS:
        STRANGER_VERBS[verb](recipe, bob)
        return
    with pytest.raises(RefusedError, match="belongs to alice"):
        STRANGER_VERBS[verb](recipe, bob)
    assert count_everything() == before


@pytest.mark.parametrize("verb", STRANGER_VERBS)
def test_what_is_no_longer_shared_is_gone_for_the_friend(alice, bob, fake_engine, verb):
    recipe = make_recipe(alice, sharing=EVERYBODY)
    make_version(recipe, fake_engine)
    share_recipe(recipe=recipe, sharing=PRIVATE, actor=alice)
    before = count_everything()

    with pytest.raises(NotFound):
        STRANGER_VERBS[verb](recipe, bob)

    assert count_everything() == before


def test_nobody_makes_images_for_others(alice, bob):
    before = count_everything()

    with pytest.raises(RefusedError):
        create_recipe(owner=alice, name="x", content=write_content(), actor=bob)

    assert count_everything() == before


def test_a_deleted_recipe_takes_no_verb(alice):
    recipe = make_recipe(alice, deleted_at=timezone.now())
    before = count_everything()

    for act in (
        lambda: change_recipe(recipe=recipe, actor=alice, description="x"),
        lambda: rename_recipe(recipe=recipe, actor=None, name="other"),
        lambda: share_recipe(recipe=recipe, actor=alice, sharing="everybody"),
        lambda: fork_recipe(source=recipe, owner=alice, actor=alice),
    ):
        with pytest.raises(NotFound):
            act()

    assert count_everything() == before


# Finding


def test_names_are_ones_own_first_then_by_owner(alice, bob, admin_person, fake_engine):
    mine = make_recipe(alice)
    his = make_recipe(bob, sharing=EVERYBODY)

    assert find_recipe(person=alice, name="thesis") == mine
    assert find_recipe(person=alice, name="bob/thesis") == his
    assert find_recipe(person=alice, name="ds01-200002/thesis") == his
    assert find_recipe(person=admin_person, name="alice/thesis") == mine


def test_nobody_can_call_themselves_anothers_repository(alice, bob, fake_engine):
    mallory = Person.objects.create_user("ds01-200001", uid=200077, gid=200077, linux_name="m")
    make_version(make_recipe(mallory, sharing=EVERYBODY), fake_engine)

    with pytest.raises(NotFound):
        find_recipe(person=bob, name="ds01-200001/thesis")
    assert find_recipe(person=bob, name="ds01-200077/thesis").owner == mallory


@pytest.mark.parametrize(
    "name", ["", "/", "alice/", "/thesis", ":1", "thesis:", "thesis:x", "thesis:0", "thesis:-1",
             "a/b/thesis", "thesis\x00", "thesis:99999999999", "ds01-99999999999/thesis"],
)  # fmt: skip
def test_what_is_no_name_is_not_found(alice, name):
    make_recipe(alice)

    with pytest.raises(NotFound):
        find_version(person=alice, reference=name)


def test_a_version_is_the_newest_that_is_left_or_the_one_named(alice, fake_engine):
    recipe = make_recipe(alice)
    versions = [make_version(recipe, fake_engine) for _ in range(3)]
    Image.objects.filter(pk=versions[2].pk).update(
        retired_at=timezone.now(), retired_cause="pruned"
    )

    assert find_version(person=alice, reference="thesis") == versions[1]
    assert find_version(person=alice, reference="thesis:latest") == versions[1]
    assert find_version(person=alice, reference="thesis:1") == versions[0]
    with pytest.raises(NotFound) as error:
        find_version(person=alice, reference="thesis:3")
    assert error.value.fields["available"] == [2, 1]


# Sharing


def test_sharing_is_with_a_group_of_the_owners_only(alice, bob, admin_person):
    recipe = make_recipe(alice)
    student, researcher = (Group.objects.get(name=name) for name in ("student", "researcher"))

    for group in (None, researcher):
        with pytest.raises(InvalidInput, match=r"group of its owner") as error:
            share_recipe(recipe=recipe, sharing=GROUP, group=group, actor=alice)
        assert error.value.hint == "Groups: student."
    with pytest.raises(InvalidInput):
        share_recipe(recipe=recipe, sharing="enemies", actor=alice)
    assert events(recipe) == []

    share_recipe(recipe=recipe, sharing=GROUP, group=student, actor=alice)
    assert last_event(recipe).after == {"name": "thesis", "sharing": "group", "group": "student"}
    share_recipe(recipe=recipe, sharing=GROUP, group=student, actor=alice)
    assert events(recipe) == ["share"]
    share_recipe(recipe=recipe, sharing=EVERYBODY, group=student, actor=alice)
    assert recipe.shared_group is None
    share_recipe(recipe=recipe, sharing=GROUP, group=researcher, actor=admin_person)
    assert recipe.shared_group == researcher


# Forks


def test_bob_forks_what_alices_version_was_built_from(alice, bob, fake_engine):
    thesis = make_recipe(
        alice, content=write_content(apt=["git"]), sharing=EVERYBODY, description="Her thesis"
    )
    first = make_version(thesis, fake_engine)
    thesis.content = write_content(apt=["vim"])
    thesis.save()
    second = make_version(thesis, fake_engine)
    thesis.content = write_content(apt=["nano"])  # written, and not built
    thesis.save()

    newest = fork_recipe(source=thesis, owner=bob, actor=bob)
    older = fork_recipe(source=thesis, owner=bob, actor=bob, number=1)

    assert (newest.name, newest.forked_from, newest.content["apt"]) == ("thesis", second, ["vim"])
    assert (older.name, older.forked_from, older.content["apt"]) == ("thesis-2", first, ["git"])
    assert newest.sharing == PRIVATE
    assert newest.description == "Her thesis"
    assert events(newest) == ["fork"]
    assert last_event(newest).after["source"] == second.reference
    with pytest.raises(NotFound):
        fork_recipe(source=thesis, owner=bob, actor=bob, number=9)


def test_a_fork_of_what_was_never_built_is_of_what_is_written(alice, bob):
    thesis = make_recipe(alice, content=write_content(apt=["git"]), sharing=EVERYBODY)

    fork = fork_recipe(source=thesis, owner=bob, actor=bob, name="mine")

    assert (fork.content["apt"], fork.forked_from) == (["git"], None)


def test_a_fork_is_judged_by_the_rights_of_its_owner(alice, bob, admin_person, fake_engine):
    secret = make_recipe(alice, "secret")
    make_version(secret, fake_engine)
    on_secret = make_recipe(alice, "open", content=on_custom("alice/secret"), sharing=EVERYBODY)
    with_lines = make_recipe(
        admin_person, "lines", content=write_content(post_install=["make"]), sharing=EVERYBODY
    )
    set_limits(subject=bob, values={"images": 0}, actor=None)
    full = make_recipe(alice, "plain", sharing=EVERYBODY)
    before = count_everything()

    for source, refusal in ((on_secret, NotFound), (with_lines, PolicyRefused)):
        set_limits(subject=bob, values={"images": 5}, actor=None)
        before = count_everything()
        with pytest.raises(refusal):
            fork_recipe(source=source, owner=bob, actor=bob)
        assert count_everything() == before
    set_limits(subject=bob, values={"images": 0}, actor=None)
    before = count_everything()
    with pytest.raises(QuotaExceeded):
        fork_recipe(source=full, owner=bob, actor=bob)
    assert count_everything() == before


# Renaming


def tags(engine) -> set[str]:
    return {tag for image in engine.list_images() for tag in image.tags if tag.startswith("ds01-")}


def test_a_rename_moves_every_version_and_who_stands_on_it_follows(alice, bob, fake_engine):
    recipe = make_recipe(alice, sharing=EVERYBODY)
    first = make_version(recipe, fake_engine)
    make_version(recipe, fake_engine)
    above = make_recipe(bob, "above", content=on_custom("alice/thesis:1"))
    built = make_version(above, fake_engine, base_reference=first.reference)
    own = make_recipe(alice, "own", content=on_custom("alice/thesis"))
    other = make_recipe(bob, "thesis")
    ids = [image.engine_image_id for image in recipe.images.order_by("number")]

    rename_recipe(recipe=recipe, name="doctorate", actor=alice)

    assert tags(fake_engine) == {
        "ds01-200001/doctorate:1",
        "ds01-200001/doctorate:2",
        "ds01-200001/doctorate:latest",
        "ds01-200002/above:1",
        "ds01-200002/above:latest",
    }
    references = list(recipe.images.order_by("number").values_list("reference", flat=True))
    assert references == ["ds01-200001/doctorate:1", "ds01-200001/doctorate:2"]
    assert [fake_engine.inspect_image(one).id for one in references] == ids
    for row in (above, own, built):
        row.refresh_from_db()
    assert above.content["base"]["image"] == "alice/doctorate:1"
    assert own.content["base"]["image"] == "alice/doctorate"
    assert built.base_reference == "ds01-200001/doctorate:1"
    assert other.content == write_content()
    assert last_event(recipe).before == {"name": "thesis"}
    assert last_event(above).reason == "its base was renamed"
    assert request_build(recipe=above, actor=bob).base_reference == "ds01-200001/doctorate:1"


def test_a_rename_to_the_same_name_is_nothing(alice):
    recipe = make_recipe(alice)

    assert rename_recipe(recipe=recipe, name="thesis", actor=alice) == recipe
    assert events(recipe) == []


def test_a_rename_to_a_taken_name_is_refused(alice, fake_engine):
    make_version(make_recipe(alice, "taken"), fake_engine)
    recipe = make_recipe(alice)
    make_version(recipe, fake_engine)
    before, there = count_everything(), tags(fake_engine)

    with pytest.raises(InvalidInput, match="already"):
        rename_recipe(recipe=recipe, name="taken", actor=alice)

    assert (count_everything(), tags(fake_engine)) == (before, there)


def test_no_rename_during_a_build(alice, fake_engine):
    recipe = make_recipe(alice)
    make_version(recipe, fake_engine)
    request_build(recipe=recipe, actor=alice)
    before, there = count_everything(), tags(fake_engine)

    with pytest.raises(Busy, match="build is under way"):
        rename_recipe(recipe=recipe, name="other", actor=alice)

    assert (count_everything(), tags(fake_engine)) == (before, there)


def test_a_build_that_begins_meanwhile_stops_the_rename_without_a_trace(
    alice, fake_engine, monkeypatch
):
    recipe = make_recipe(alice)
    make_version(recipe, fake_engine)
    there = tags(fake_engine)
    real = recipe_renames._tag

    def tag_slowly(*values):
        made = real(*values)
        request_build(recipe=recipe, actor=alice)
        return made

    monkeypatch.setattr(recipe_renames, "_tag", tag_slowly)

    with pytest.raises(Busy):
        rename_recipe(recipe=recipe, name="other", actor=alice)

    recipe.refresh_from_db()
    assert recipe.name == "thesis"
    assert tags(fake_engine) == there


def test_a_name_taken_meanwhile_keeps_the_tags_of_who_took_it(alice, fake_engine, monkeypatch):
    recipe = make_recipe(alice)
    make_version(recipe, fake_engine)
    twin = make_recipe(alice, "twin")
    theirs = make_version(twin, fake_engine)
    real = recipe_renames._tag
    calls: list[str] = []

    def tag_slowly(*values):
        made = real(*values)
        calls.append(values[2])
        if len(calls) == 1:  # the twin is renamed to the same name in between
            rename_recipe(recipe=twin, name="other", actor=alice)
        return made

    monkeypatch.setattr(recipe_renames, "_tag", tag_slowly)

    with pytest.raises(InvalidInput, match="already"):
        rename_recipe(recipe=recipe, name="other", actor=alice)

    assert fake_engine.inspect_image("ds01-200001/other:1").id == theirs.engine_image_id
    assert "ds01-200001/thesis:1" in tags(fake_engine)


def test_an_engine_that_is_away_stops_a_rename_before_anything(alice, fake_engine):
    recipe = make_recipe(alice)
    make_version(recipe, fake_engine)
    before, there = count_everything(), tags(fake_engine)
    fake_engine.faults.fail_next("tag_image", EngineUnreachable("The engine is away."))

    with pytest.raises(EngineUnreachable):
        rename_recipe(recipe=recipe, name="other", actor=alice)

    assert (count_everything(), tags(fake_engine)) == (before, there)


def test_a_version_that_is_gone_from_the_engine_does_not_stop_a_rename(alice, fake_engine):
    recipe = make_recipe(alice)
    gone = make_version(recipe, fake_engine)
    fake_engine.remove_image("ds01-200001/thesis:latest")
    fake_engine.remove_image(gone.reference)
    make_version(recipe)

    rename_recipe(recipe=recipe, name="other", actor=alice)

    assert set(recipe.images.values_list("reference", flat=True)) == {
        "ds01-200001/other:1",
        "ds01-200001/other:2",
    }


def test_a_name_whose_old_images_are_being_removed_waits(alice, fake_engine):
    old = make_recipe(alice, "old")
    make_version(old, fake_engine)
    delete_image(recipe=old, actor=alice)
    recipe = make_recipe(alice)
    before = count_everything()

    with pytest.raises(Busy, match="being removed"):
        rename_recipe(recipe=recipe, name="old", actor=alice)

    assert count_everything() == before


def test_the_database_itself_refuses_two_images_of_one_name(alice):
    make_recipe(alice)

    with pytest.raises(IntegrityError):
        make_recipe(alice)


# Newer bases


def test_a_newer_base_is_what_the_catalogue_lists_before(alice):
    recipe = make_recipe(alice)
    newest = make_recipe(
        alice, "newest", content={"base": {"kind": "catalog", "framework": "alpha"}}
    )

    assert [row.version for row in newer_bases(recipe=recipe)] == ["2.1.0-extra"]
    assert newer_bases(recipe=newest) == []
    make_version(newest, base_reference=BASE_REFERENCE)
    assert [row.version for row in newer_bases(recipe=newest)] == ["2.1.0-extra"]


def test_for_a_base_that_vanished_everything_offered_is_newer(alice):
    recipe = make_recipe(alice)
    Image.objects.filter(reference=BASE_REFERENCE).update(
        retired_at=timezone.now(), retired_cause="vanished"
    )

    assert [row.version for row in newer_bases(recipe=recipe)] == ["2.1.0-extra"]


def test_a_newer_version_of_a_custom_base_counts_while_it_is_shared(alice, bob, fake_engine):
    below = make_recipe(alice, sharing=EVERYBODY)
    first = make_version(below, fake_engine)
    pinned = make_recipe(bob, "pinned", content=on_custom("alice/thesis:1"))
    follows = make_recipe(bob, "follows", content=on_custom("alice/thesis"))
    make_version(follows, fake_engine, base_reference=first.reference)
    second = make_version(below, fake_engine)

    assert newer_bases(recipe=pinned) == [second]
    assert newer_bases(recipe=follows) == [second]
    share_recipe(recipe=below, sharing=PRIVATE, actor=alice)
    assert newer_bases(recipe=pinned) == []


@pytest.mark.parametrize("content", [{}, on_reference("x"), on_custom("nobody/x"), on_custom("x")])
def test_without_a_known_base_nothing_is_newer(alice, content):
    assert newer_bases(recipe=make_recipe(alice, content=content)) == []


def test_a_base_that_vanished_is_told_when_it_is_built_again(alice):
    recipe = create_recipe(owner=alice, name="thesis", content=write_content(), actor=alice)
    Image.objects.filter(reference=BASE_REFERENCE).update(
        retired_at=timezone.now(), retired_cause="vanished"
    )
    before = count_everything()

    with pytest.raises(ImageRefused) as error:
        request_build(recipe=recipe, actor=alice)

    assert "2.1.0-extra" in error.value.hint
    assert count_everything() == before
