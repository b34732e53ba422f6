"""Custom images in script mode: no prompt, JSON, exit 0 done, 1 refused, 2 engine trouble."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.core.management.base import CommandError

from catalog import uses
from catalog.management.commands import show_build
from catalog.models import Build, BuildPolicy, Image, Recipe
from catalog.services.builds import request_build
from catalog.services.lookups import lookup_image
from catalog.tests.recipe_players import (
    BASE_REFERENCE,
    MIB,
    count_everything,
    make_recipe,
    make_version,
    on_custom,
    write_content,
)
from ds01portal.engine.fake import FakeEngine
from ds01portal.exceptions import EngineUnreachable
from ds01portal.management import base
from ds01portal.models import Event

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]
EVERYBODY = Recipe.Sharing.EVERYBODY
ON_ALPHA = ("--framework", "alpha", "--version", "2.1.0")
BUILD = ("build_image", "alice", "thesis")


@dataclass
class Answer:
    """What a command ended with."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def machine(settings, catalogue, fake_engine: FakeEngine):
    settings.MLC_ARCH = "CUDA_ADA"
    for image in catalogue:
        fake_engine.add_image(image.reference, 500 * MIB)
    fake_engine.script_step(match="", output=[b"doing it\n"])
    BuildPolicy.objects.update_or_create(pk=1, defaults={"free_disk_floor_bytes": 0})


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
def beside(monkeypatch, run_due):
    """Have the worker carry out what is due while a command waits or follows."""
    monkeypatch.setattr(base.time, "sleep", lambda _seconds: run_due())


@pytest.fixture
def used(monkeypatch):
    """Have containers on images: primary key to names."""
    names: dict[int, list[str]] = {}
    monkeypatch.setattr(uses, "_by_row", [lambda keys: {k: names[k] for k in keys if k in names}])
    return names


# build_image


def test_an_image_is_made_from_a_command_line_and_built(
    manage, alice, admin_person, beside, tmp_path
):
    BuildPolicy.objects.update(post_install="everybody")
    file = tmp_path / "requirements.txt"
    file.write_text("# mine\neinops>=0.7,<1  # why\n")

    answer = manage(
        *BUILD, *ON_ALPHA, "--arch", "CUDA_ADA",
        "--jupyter", "default", "--data-science", "polars", "pyarrow",
        "--use-case", "rl", "--requirements", str(file), "--pip", "rich", "typer>=0.9",
        "--apt", "git", "vim", "--env", "MODE=a=b", "EMPTY=",
        "--post-install", "echo hello",
        "--fresh", "--wait", "--timeout", "5m", "--json",
    )  # fmt: skip

    assert answer.code == 0, answer.err
    assert answer.json["error"] is None
    build = answer.json["build"]
    assert (build["state"], build["version"]) == ("done", 1)
    assert build["image"] == "ds01-200001/thesis:1"
    assert build["base"] == BASE_REFERENCE
    recipe = Recipe.objects.get(owner=alice, name="thesis")
    assert recipe.content == {
        "base": {
            "kind": "catalog",
            "framework": "alpha",
            "version": "2.1.0",
            "architecture": "CUDA_ADA",
        },
        "jupyter": {"choice": "default", "packages": []},
        "data_science": {"choice": "own", "packages": ["polars", "pyarrow"]},
        "use_case": "rl",
        "use_case_packages": [],
        "requirements": "# mine\neinops>=0.7,<1  # why\nrich\ntyper>=0.9",
        "apt": ["git", "vim"],
        "environment": {"EMPTY": "", "MODE": "a=b"},
        "post_install": ["echo hello"],
        "fresh": False,
    }
    assert Build.objects.get().fresh is True


def test_what_is_named_replaces_that_part_and_the_rest_stays(manage, alice, beside):
    manage(*BUILD, *ON_ALPHA, "--pip", "einops", "--apt", "git", "--env", "A=1", "--wait")

    answer = manage(*BUILD, "--apt", "--use-case", "custom", "lightning", "--wait")

    assert answer.code == 0, answer.err
    assert "alice/thesis:2: done, ds01-200001/thesis:2" in answer.out
    content = Recipe.objects.get().content
    assert (content["apt"], content["requirements"]) == ([], "einops")
    assert (content["use_case"], content["use_case_packages"]) == ("custom", ["lightning"])
    assert content["environment"] == {"A": "1"}
    none = manage(*BUILD, "--use-case", "none", "--jupyter", "none", "--json")
    assert none.json["build"]["state"] == "queued"
    assert Recipe.objects.get().content["use_case"] == ""


def test_without_anything_named_the_recipe_is_built_as_it_is(manage, alice):
    make_recipe(alice)
    before = Recipe.objects.get().content

    answer = manage(*BUILD)

    assert answer.code == 0
    assert "alice/thesis:1: queued" in answer.out
    assert "--wait" in answer.out
    assert Recipe.objects.get().content == before
    assert not Event.objects.filter(verb="change").exists()


def test_a_base_is_found_among_images_before_it_is_a_reference(manage, alice, bob, fake_engine):
    make_version(make_recipe(bob, "tools", sharing=EVERYBODY), fake_engine)
    make_version(make_recipe(alice, "own"), fake_engine)
    BuildPolicy.objects.update(registries="nvcr.io/nvidia/*")
    bases = {
        "bob/tools:1": {"kind": "custom", "image": "bob/tools:1"},
        "own": {"kind": "custom", "image": "alice/own"},
        "ds01-200002/tools": {"kind": "custom", "image": "bob/tools"},
        "nvcr.io/nvidia/pytorch:24.05": {
            "kind": "reference",
            "reference": "nvcr.io/nvidia/pytorch:24.05",
        },
    }

    for number, (reference, kept) in enumerate(bases.items()):
        answer = manage("build_image", "alice", f"i{number}", "--base", reference, "--json")
        assert answer.code == 0, answer.err
        assert Recipe.objects.get(name=f"i{number}").content["base"] == kept


def test_other_dependency_files_are_read_too_with_what_was_left_out(manage, alice, tmp_path):
    file = tmp_path / "environment.yml"
    file.write_text("name: x\nchannels: [conda-forge]\ndependencies:\n  - python=3.11\n  - rich\n")

    answer = manage(*BUILD, *ON_ALPHA, "--requirements", str(file), "--json")

    assert answer.code == 0, answer.err
    assert "rich" in Recipe.objects.get().content["requirements"]
    assert "python" in answer.err


def test_dry_run_prints_all_findings_and_makes_nothing(manage, alice):
    before = count_everything()

    good = manage(*BUILD, *ON_ALPHA, "--pip", "einops", "--dry-run")
    as_json = manage(*BUILD, *ON_ALPHA, "--pip", "einops", "--dry-run", "--json")
    bad = manage(
        *("build_image", "alice", "Thesis", "--framework", "alpha", "--version", "9"),
        *("--pip", "a=1", "--apt", "x;y", "--dry-run", "--json"),
    )

    assert good.code == 0
    assert "ok       base" in good.out
    assert "estimate" in good.out
    assert "Nothing was made" in good.out
    assert "FROM" not in good.out
    assert as_json.json["allowed"] is True
    assert f"FROM {BASE_REFERENCE}" in as_json.json["dockerfile"]
    assert bad.code == 1
    refused = [one for one in bad.json["findings"] if one["level"] == "refused"]
    assert [one["field"] for one in refused] == ["name", "base", "requirements", "apt"]
    assert [one["line"] for one in refused] == [0, 0, 1, 0]
    assert bad.json["error"]["code"] == "invalid-input"
    assert count_everything() == before


def test_the_dockerfile_alone_is_printed_and_nothing_made(manage, alice):
    before = count_everything()

    alone = manage(*BUILD, *ON_ALPHA, "--pip", "einops", "--dockerfile")
    again = manage(*BUILD, *ON_ALPHA, "--pip", "einops", "--dockerfile")
    both = manage(*BUILD, *ON_ALPHA, "--pip", "einops", "--dockerfile", "--dry-run")
    refused = manage(*BUILD, "--framework", "nope", "--dockerfile")

    assert alone.out.startswith("# DS01 Portal")
    assert alone.out.endswith("\n")
    assert alone.out == again.out
    assert alone.out in both.out
    assert "ok " in both.out
    assert (refused.code, refused.out) == (1, "")
    assert "There is no framework" in refused.err
    assert count_everything() == before


REFUSED_LINES = {
    "no base": ((), "invalid-input"),
    "two bases": ((*ON_ALPHA, "--base", "x"), "invalid-input"),
    "version without framework": (("--base", "x", "--version", "1"), "invalid-input"),
    "arch without framework": (("--base", "x", "--arch", "CUDA"), "invalid-input"),
    "unknown version": (("--framework", "alpha", "--version", "7"), "image-refused"),
    "unknown base": (("--base", "someone/thing:1"), "policy-refused"),
    "a private image": (("--base", "charlie/secret"), "policy-refused"),
    "a private image by uid": (("--base", "ds01-200003/secret:1"), "not-found"),
    "default beside packages": ((*ON_ALPHA, "--jupyter", "default", "x"), "invalid-input"),
    "packages for a list": ((*ON_ALPHA, "--use-case", "ml", "x"), "invalid-input"),
    "unknown use case": ((*ON_ALPHA, "--use-case", "alchemy"), "invalid-input"),
    "no such file": ((*ON_ALPHA, "--requirements", "/nowhere/r.txt"), "invalid-input"),
    "an archive": ((*ON_ALPHA, "--requirements", "ARCHIVE"), "invalid-input"),
    "a bad requirement": ((*ON_ALPHA, "--pip", "x y"), "invalid-input"),
    "a variable without a value": ((*ON_ALPHA, "--env", "A"), "invalid-input"),
    "a variable twice": ((*ON_ALPHA, "--env", "A=1", "A=2"), "invalid-input"),
    "a loader variable": ((*ON_ALPHA, "--env", "LD_PRELOAD=/x"), "invalid-input"),
    "shell lines": ((*ON_ALPHA, "--post-install", "id"), "policy-refused"),
    "timeout without wait": ((*ON_ALPHA, "--timeout", "5"), "invalid-input"),
    "timeout not a time": ((*ON_ALPHA, "--wait", "--timeout", "soon"), "invalid-input"),
}


@pytest.mark.parametrize("case", REFUSED_LINES)
def test_a_refused_command_line_ends_with_1_and_makes_nothing(
    manage, alice, charlie, fake_engine, tmp_path, case
):
    make_version(make_recipe(charlie, "secret"), fake_engine)
    archive = tmp_path / "r.txt"
    archive.write_bytes(b"PK\x03\x04rest")
    args, code = REFUSED_LINES[case]
    args = tuple(str(archive) if arg == "ARCHIVE" else arg for arg in args)
    before = count_everything()

    answer = manage(*BUILD, *args, "--json")

    assert answer.code == 1
    assert answer.json["error"]["code"] == code
    assert count_everything() == before


def test_a_person_who_does_not_exist_is_refused(manage, db):
    answer = manage("build_image", "nobody", "x", *ON_ALPHA, "--json")

    assert (answer.code, answer.json["error"]["code"]) == (1, "not-found")


def test_a_failed_build_says_the_step_and_its_last_lines(manage, alice, beside, fake_engine):
    fake_engine.script_step(match="pip", output=[b"ERROR: No matching distribution\n"], exit_code=1)

    text = manage(*BUILD, *ON_ALPHA, "--pip", "nosuchthing", "--wait")
    as_json = manage(*BUILD, "--wait", "--json")

    assert (text.code, as_json.code) == (1, 1)
    assert "No matching distribution" in text.out
    assert as_json.json["build"]["state"] == "failed"
    assert as_json.json["error"]["fields"]["step"] == 1
    assert not Image.objects.custom().exists()


def test_waiting_ends_in_time_with_2_and_cancels_nothing(manage, alice):
    answer = manage(*BUILD, *ON_ALPHA, "--wait", "--timeout", "0.2s", "--json")

    assert answer.code == 2
    assert answer.json["error"]["family"] == "timeout"
    assert "show_build" in answer.json["error"]["hint"]
    assert Build.objects.get().state == "queued"
    assert not Build.objects.get().operation.cancel_requested


# rebuild_image


def test_a_rebuild_fetches_everything_anew_unless_told_otherwise(manage, alice, beside):
    make_recipe(alice)

    for option, fresh in (((), True), (("--fresh",), True), (("--cached",), False)):
        answer = manage("rebuild_image", "alice", "thesis", *option, "--wait", "--json")
        assert answer.code == 0, answer.err
        assert Build.objects.get(number=answer.json["build"]["version"]).fresh is fresh
    assert manage("rebuild_image", "alice", "thesis", "--fresh", "--cached").code == 1


def test_a_rebuild_on_another_base_says_what_changes_and_keeps_it(manage, alice):
    make_recipe(alice)

    answer = manage("rebuild_image", "alice", "thesis", "--base-version", "2.1.0-extra")

    assert answer.code == 0, answer.err
    assert "Base: alpha 2.1.0 → alpha 2.1.0-extra" in answer.out
    assert Recipe.objects.get().content["base"]["version"] == "2.1.0-extra"
    assert Build.objects.get().base_reference == "lab/alpha-2.1.0-extra-cuda12.6.3"


def test_a_rebuild_on_the_newest_base_takes_what_a_lookup_takes(manage, alice):
    make_recipe(alice)

    answer = manage(
        *("rebuild_image", "alice", "thesis", "--base-version", "newest"),
        *("--wait", "--timeout", "0.1s"),
    )

    assert answer.code == 2
    assert Build.objects.get().base_reference == lookup_image(framework="alpha").reference


@pytest.mark.parametrize(("version", "image"), [("2", "alice/below:2"), ("newest", "alice/below")])
def test_a_rebuild_on_a_later_version_of_a_custom_base(manage, alice, fake_engine, version, image):
    below = make_recipe(alice, "below")
    for _ in range(2):
        make_version(below, fake_engine)
    make_recipe(alice, content=on_custom("alice/below:1"))

    answer = manage("rebuild_image", "alice", "thesis", "--base-version", version, "--json")

    assert answer.code == 0, answer.err
    assert answer.json["build"]["base"] == "ds01-200001/below:2"
    assert Recipe.objects.get(name="thesis").content["base"]["image"] == image


def test_a_rebuild_on_a_base_that_does_not_exist_changes_nothing(manage, alice):
    make_recipe(alice)
    before = count_everything()

    answer = manage("rebuild_image", "alice", "thesis", "--base-version", "9", "--json")

    assert (answer.code, answer.json["error"]["code"]) == (1, "image-refused")
    assert count_everything() == before


# show_image and list_images


def test_an_image_is_shown_with_versions_builds_and_history(manage, alice, beside, used):
    manage(*BUILD, *ON_ALPHA, "--wait")
    used[Image.objects.custom().get().pk] = ["alice/run"]

    answer = manage("show_image", "alice", "thesis", "--json")
    text = manage("show_image", "alice", "thesis")

    data = answer.json
    assert (data["owner"], data["name"], data["sharing"]) == ("alice", "thesis", "private")
    version = data["versions"][0]
    assert (version["version"], version["image"]) == (1, "ds01-200001/thesis:1")
    assert version["containers"] == ["alice/run"]
    assert version["base"] == BASE_REFERENCE
    assert data["newer_bases"] == ["lab/alpha-2.1.0-extra-cuda12.6.3"]
    assert data["builds"][0]["state"] == "done"
    assert [event["verb"] for event in data["events"]][:2] == ["create", "build"]
    for words in ("alice/thesis", "only me", "used by alice/run", "newer base", "create (portal)"):
        assert words in text.out


def test_to_a_friend_an_image_is_shown_without_builds_and_history(
    manage, alice, bob, beside, fake_engine
):
    manage(*BUILD, *ON_ALPHA, "--wait")
    make_recipe(alice, "fork", forked_from=Image.objects.custom().get())
    group = Group.objects.get(name="student")
    Recipe.objects.update(sharing="group", shared_group=group)

    shared = manage("show_image", "bob", "alice/thesis", "--json")
    text = manage("show_image", "bob", "alice/fork")

    assert shared.code == 0
    assert (shared.json["builds"], shared.json["events"]) == ([], [])
    assert len(shared.json["versions"]) == 1
    assert "a group student" in text.out
    assert "copied from    ds01-200001/thesis:1" in text.out


def test_all_launchable_images_are_listed_with_owner_sizes_and_use(
    manage, alice, fake_engine, used
):
    recipe = make_recipe(alice)
    version = make_version(recipe, fake_engine)
    make_version(make_recipe(alice, "elsewhere"))  # not on this machine
    used[version.pk] = ["alice/run"]

    rows = manage("list_images", "--json").json["images"]
    text = manage("list_images").out

    custom = [row for row in rows if row["kind"] == "custom"]
    assert len(rows) == 7
    assert [row["image"] for row in custom] == ["ds01-200001/thesis:1"]
    assert (custom[0]["owner"], custom[0]["name"], custom[0]["number"]) == ("alice", "thesis", 1)
    assert (custom[0]["size_bytes"], custom[0]["own_size_bytes"]) == (900 * MIB, 100 * MIB)
    assert custom[0]["containers"] == ["alice/run"]
    assert rows[0]["owner"] is None
    assert "alice/thesis:1" in text
    assert "900 MB, own 100 MB  used by alice/run" in text


def test_a_persons_own_images_are_listed_before_those_shared_with_them(
    manage, alice, bob, charlie, fake_engine
):
    make_version(make_recipe(bob), fake_engine)
    make_version(make_recipe(alice, "tools", sharing=EVERYBODY), fake_engine)
    make_version(make_recipe(alice, "secret"), fake_engine)
    make_recipe(bob, "later")
    make_recipe(alice, "hidden")
    gone = make_version(Recipe.objects.get(name="tools"), fake_engine)
    Image.objects.filter(pk=gone.pk).update(retired_at=gone.created_at, retired_cause="pruned")

    answer = manage("list_images", "--user", "bob", "--json")
    text = manage("list_images", "--user", "bob")
    everything = manage("list_images", "--user", "bob", "--all", "--json")

    names = [f"{row['owner']}/{row['name']}:{row['number']}" for row in answer.json["images"]]
    assert names == ["bob/thesis:1", "alice/tools:1"]
    assert answer.json["not_built"] == ["bob/later"]
    assert "bob/later: not built yet" in text.out
    assert "secret" not in text.out
    assert len(everything.json["images"]) == 3
    charlies = manage("list_images", "--user", "charlie", "--json").json["images"]
    assert [row["name"] for row in charlies] == ["tools"]


# delete_image


def test_a_deletion_says_first_what_would_go(manage, alice, fake_engine):
    recipe = make_recipe(alice)
    make_version(recipe, fake_engine)
    make_version(recipe, fake_engine)
    before = count_everything()

    text = manage("delete_image", "alice", "thesis", "--dry-run")
    one = manage("delete_image", "alice", "thesis:1", "--dry-run", "--json")

    assert text.code == 0
    assert "Versions: 2, 200 MB of their own." in text.out
    assert "Nothing was deleted." in text.out
    assert one.json["deletion"]["versions"] == ["ds01-200001/thesis:1"]
    assert count_everything() == before


def test_one_version_goes_or_all_of_it(manage, alice, fake_engine):
    recipe = make_recipe(alice)
    for _ in range(3):
        make_version(recipe, fake_engine)

    first = manage("delete_image", "alice", "thesis:1", "--json")
    latest = manage("delete_image", "alice", "thesis:latest", "--json")

    assert (first.code, latest.code) == (0, 0)
    assert latest.json["deletion"]["versions"] == ["ds01-200001/thesis:3"]
    assert list(recipe.images.active().values_list("number", flat=True)) == [2]
    assert Recipe.objects.live().exists()
    whole = manage("delete_image", "alice", "thesis")
    assert "thesis is deleted." in whole.out
    assert not Recipe.objects.live().exists()
    again = manage("delete_image", "alice", "thesis", "--json")
    assert again.json["error"]["code"] == "not-found"


def test_an_image_in_use_stays(manage, alice, fake_engine, used):
    version = make_version(make_recipe(alice), fake_engine)
    used[version.pk] = ["alice/run"]
    before = count_everything()

    for args in (("thesis",), ("thesis:1",), ("thesis", "--dry-run"), ("thesis:1", "--dry-run")):
        answer = manage("delete_image", "alice", *args, "--json")
        assert answer.code == 1
        assert answer.json["error"]["code"] == "image-in-use"
        assert answer.json["error"]["fields"]["containers"] == ["alice/run"]

    assert count_everything() == before


def test_a_deletion_names_what_was_built_on_it(manage, alice, bob, fake_engine):
    below = make_recipe(alice, sharing=EVERYBODY)
    version = make_version(below, fake_engine)
    above = make_recipe(bob, "above", content=on_custom("alice/thesis"))
    make_version(above, fake_engine, base_reference=version.reference)
    Image.objects.filter(recipe=above).update(base_engine_id=version.engine_image_id)

    text = manage("delete_image", "alice", "thesis", "--dry-run")

    assert text.code == 0
    assert "above" in text.out


# rename_image, share_image, fork_image


def test_an_image_is_renamed(manage, alice, fake_engine):
    make_version(make_recipe(alice), fake_engine)

    text = manage("rename_image", "alice", "thesis", "doctorate")
    as_json = manage("rename_image", "alice", "doctorate", "dissertation", "--json")

    assert "alice/doctorate: ds01-200001/doctorate" in text.out
    assert as_json.json["versions"][0]["image"] == "ds01-200001/dissertation:1"
    assert manage("rename_image", "alice", "dissertation", "Bad Name").code == 1


def test_an_engine_that_is_away_is_trouble_not_a_refusal(manage, alice, fake_engine):
    make_version(make_recipe(alice), fake_engine)
    fake_engine.faults.fail_next("tag_image", EngineUnreachable("The engine is away."))

    answer = manage("rename_image", "alice", "thesis", "other", "--json")

    assert (answer.code, answer.json["error"]["code"]) == (2, "engine-unreachable")
    assert Recipe.objects.get().name == "thesis"


def test_an_image_is_shared_and_taken_back(manage, alice):
    make_recipe(alice)
    share = ("share_image", "alice", "thesis", "--with")

    group = manage(*share, "student")
    everybody = manage(*share, "everybody", "--json")
    nobody = manage(*share, "nobody", "--json")
    strangers = manage(*share, "researcher", "--json")
    nonsense = manage(*share, "no such group", "--json")

    assert "a group student" in group.out
    assert everybody.json["sharing"] == "everybody"
    assert nobody.json["sharing"] == "private"
    assert strangers.json["error"]["fields"]["field"] == "group"
    assert nonsense.json["error"] == strangers.json["error"]
    assert Recipe.objects.get().sharing == "private"


def test_a_shared_image_is_copied(manage, alice, bob, fake_engine):
    recipe = make_recipe(alice, content=write_content(apt=["git"]), sharing=EVERYBODY)
    make_version(recipe, fake_engine)
    recipe.content = write_content(apt=["vim"])
    recipe.save()
    make_version(recipe, fake_engine)

    plain = manage("fork_image", "bob", "alice/thesis")
    older = manage("fork_image", "bob", "alice/thesis:1", "--name", "older", "--json")
    taken = manage("fork_image", "bob", "alice/thesis", "--name", "older", "--json")

    assert "bob/thesis: a copy of alice/thesis" in plain.out
    assert older.json["content"]["apt"] == ["git"]
    assert older.json["forked_from"] == "ds01-200001/thesis:1"
    assert taken.json["error"]["fields"]["field"] == "name"


# show_build and cancel_build


def test_a_build_is_cancelled_once(manage, alice, run_due):
    recipe = make_recipe(alice)
    request_build(recipe=recipe, actor=alice)

    text = manage("cancel_build", "alice", "thesis")
    run_due()
    again = manage("cancel_build", "alice", "thesis", "--json")
    words = manage("cancel_build", "alice", "thesis")

    assert "It is being cancelled." in text.out
    assert Build.objects.get().state == "cancelled"
    assert again.json == {"cancelled": False, "build": None}
    assert (words.code, words.out) == (0, "No build of thesis is under way.\n")


def test_a_cancelled_build_is_told_to_who_waits(manage, alice, run_due, monkeypatch):
    def cancel_and_go_on(_seconds):
        manage("cancel_build", "alice", "thesis", "--json")
        run_due()

    monkeypatch.setattr(base.time, "sleep", cancel_and_go_on)

    answer = manage(*BUILD, *ON_ALPHA, "--wait")

    assert answer.code == 1
    assert "cancelled" in answer.err.lower()


def test_a_build_is_shown_with_its_steps_and_its_log(manage, alice, run_due):
    recipe = make_recipe(alice, content=write_content(apt=["git"], requirements="einops"))
    request_build(recipe=recipe, actor=alice)
    waiting = manage("show_build", "alice", "thesis", "--json")
    run_due()
    request_build(recipe=recipe, actor=alice)
    run_due()

    text = manage("show_build", "alice", "thesis:1", "--log")
    newest = manage("show_build", "alice", "thesis", "--json")
    with_log = manage("show_build", "alice", "thesis:1", "--log", "--json")

    assert waiting.json["state"] == "queued"
    assert "doing it" in text.out
    assert "alice/thesis:1: done, ds01-200001/thesis:1" in text.out
    assert "System packages" in text.out
    assert newest.json["version"] == 2
    assert "log" not in newest.json
    assert "doing it" in with_log.json["log"]
    missing = manage("show_build", "alice", "thesis:9", "--json")
    assert missing.json["error"]["code"] == "not-found"


def test_a_log_is_followed_to_its_end(manage, alice, run_due, monkeypatch):
    recipe = make_recipe(alice, content=write_content(requirements="einops"))
    request_build(recipe=recipe, actor=alice)
    monkeypatch.setattr(show_build.time, "sleep", lambda _seconds: run_due())

    text = manage("show_build", "alice", "thesis", "--follow")
    as_json = manage("show_build", "alice", "thesis", "--follow", "--json")

    assert text.code == 0
    assert text.out.count("doing it") == 1
    assert text.out.index("doing it") < text.out.index("alice/thesis:1: done")
    assert as_json.json["state"] == "done"


def test_following_a_build_that_fails_ends_with_1(manage, alice, run_due, monkeypatch, fake_engine):
    fake_engine.script_step(match="pip", output=[b"no space left\n"], exit_code=1)
    recipe = make_recipe(alice, content=write_content(requirements="einops"))
    request_build(recipe=recipe, actor=alice)
    monkeypatch.setattr(show_build.time, "sleep", lambda _seconds: run_due())

    text = manage("show_build", "alice", "thesis", "--follow")
    shown = manage("show_build", "alice", "thesis")

    assert text.code == 1
    assert "no space left" in text.out
    assert shown.code == 0
    assert "alice/thesis:1: failed" in shown.out


# Strangers

STRANGERS = {
    "show_image": (),
    "delete_image": (),
    "rebuild_image": (),
    "rename_image": ("mine",),
    "share_image": ("--with", "everybody"),
    "fork_image": (),
    "cancel_build": (),
    "show_build": ("--log",),
}
FRIENDS_MAY = {"show_image", "fork_image"}


@pytest.mark.parametrize("name", ["alice/thesis", "alice/thesis:1", "ds01-200001/thesis"])
@pytest.mark.parametrize("command", STRANGERS)
def test_a_stranger_finds_nothing_by_any_command(
    manage, alice, charlie, fake_engine, command, name
):
    group = Group.objects.get(name="student")
    recipe = make_recipe(alice, sharing="group", shared_group=group)
    make_version(recipe, fake_engine)
    request_build(recipe=recipe, actor=alice)
    before = count_everything()

    answer = manage(command, "charlie", name, *STRANGERS[command], "--json")

    assert (answer.code, answer.json["error"]["code"]) == (1, "not-found")
    assert count_everything() == before


@pytest.mark.parametrize("command", STRANGERS)
def test_a_friend_may_do_exactly_what_sharing_says(manage, alice, bob, fake_engine, command):
    recipe = make_recipe(alice, sharing=EVERYBODY)
    make_version(recipe, fake_engine)
    request_build(recipe=recipe, actor=alice)
    before = count_everything()

    answer = manage(command, "bob", "alice/thesis", *STRANGERS[command], "--json")

    if command in FRIENDS_MAY:
        assert answer.code == 0
        return
    assert answer.code == 1
    assert answer.json["error"]["code"] in ("refused", "not-found")
    assert count_everything() == before


def test_an_admin_reaches_everybodys(manage, alice, admin_person, fake_engine):
    recipe = make_recipe(alice)
    make_version(recipe, fake_engine)

    assert manage("show_image", "ada", "alice/thesis").code == 0
    assert manage("show_build", "ada", "alice/thesis").code == 0
    assert manage("delete_image", "ada", "alice/thesis").code == 0


def test_no_command_reads_a_path_of_the_machine_from_a_name(manage, alice, tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("x")

    for command, options in STRANGERS.items():
        answer = manage(command, "alice", f"../{secret}", *options, "--json")
        assert answer.json["error"]["code"] == "not-found"
