"""The builder and the page of an image: what is shown, what is refused, that nothing is lost."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from catalog.log_html import render_line
from catalog.models import Build, BuildPolicy, Image, Recipe
from catalog.services.builds import request_build
from catalog.tests.recipe_players import (
    BASE_REFERENCE,
    count_everything,
    make_recipe,
    make_version,
    write_content,
)
from ds01portal.models import Person
from ds01portal.services.quotas import set_limits

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]

NEW = "/images/new/"
PREVIEW = "/images/new/preview/"
IMPORT = "/images/new/import/"


@pytest.fixture(autouse=True)
def machine(settings: Any, catalogue: list[Image], fake_engine: Any) -> Any:
    """A small catalogue, an engine in memory, room on the disk."""
    settings.MLC_ARCH = "CUDA_ADA"
    BuildPolicy.objects.update_or_create(pk=1, defaults={"free_disk_floor_bytes": 0})
    return fake_engine


def browser_of(person: Person) -> Client:
    """Return a browser that is signed in."""
    client = Client()
    client.force_login(person)
    return client


@pytest.fixture
def browser(alice: Person) -> Client:
    """Alice's browser."""
    return browser_of(alice)


def typed(**values: Any) -> dict[str, Any]:
    """Return what a filled form sends."""
    return {
        "name": "thesis",
        "description": "for my thesis",
        "base": "catalog:alpha:2.1.0:",
        "jupyter": "none",
        "data_science": "none",
        "use_case": "",
        "requirements": "einops>=0.8  # shapes\n",
        "apt": "git ffmpeg",
        "environment": "HF_HOME=/workspace/hf",
        "action": "save",
        **values,
    }


# ---- Writing ------------------------------------------------------------------------------------


def test_a_filled_form_becomes_a_recipe_with_what_was_typed(browser, alice):
    answer = browser.post(NEW, typed())

    recipe = Recipe.objects.get()
    assert answer.status_code == 302
    assert answer.url == recipe.get_absolute_url()
    assert (recipe.owner, recipe.name, recipe.description) == (alice, "thesis", "for my thesis")
    assert recipe.content["requirements"] == "einops>=0.8  # shapes\n"
    assert recipe.content["apt"] == ["git", "ffmpeg"]
    assert recipe.content["environment"] == {"HF_HOME": "/workspace/hf"}
    assert recipe.content["base"]["version"] == "2.1.0"
    assert not Build.objects.exists()


def test_save_and_build_leads_to_the_build(browser):
    answer = browser.post(NEW, typed(action="build"))

    build = Build.objects.get()
    assert answer.url == build.get_absolute_url()
    assert build.state == Build.State.QUEUED


def test_all_that_stands_in_the_way_is_said_at_once_and_nothing_is_lost(browser):
    sent = typed(
        name="No Good",
        requirements="einops\n-r other.txt\nnot a package!\n",
        apt="git;rm",
        environment="LD_PRELOAD=/x.so\nno equals sign",
        base="catalog:alpha:9.9:",
    )
    before = count_everything()

    answer = browser.post(NEW, sent)

    assert answer.status_code == 422
    errors = answer.context["form"].errors
    assert set(errors) >= {"name", "requirements", "apt", "environment", "base"}
    assert len(errors["requirements"]) == 2
    assert "Line 2" in str(errors["requirements"])
    assert "Line 2 of the variables" in str(errors["environment"])
    for words in ("No Good", "-r other.txt", "not a package!", "git;rm", "no equals sign"):
        assert words in answer.text
    assert 'value="catalog:alpha:9.9:"' in answer.text, "the base that is not offered stays chosen"
    assert count_everything() == before


def test_a_name_that_is_missing_is_asked_for_once(browser):
    answer = browser.post(NEW, typed(name=""))

    assert answer.status_code == 422
    assert answer.context["form"].errors["name"] == ["Give it a name."]


def test_a_second_image_of_the_same_name_is_refused(browser):
    browser.post(NEW, typed())

    answer = browser.post(NEW, typed())

    assert answer.status_code == 422
    assert "name" in answer.context["form"].errors
    assert Recipe.objects.count() == 1


def test_own_shell_lines_are_refused_for_students_and_say_why(browser):
    page = browser.get(NEW)
    answer = browser.post(NEW, typed(post_install="echo hello"))

    assert "Not allowed for you on this site" in page.text
    assert answer.status_code == 422
    assert "post_install" in answer.context["form"].errors
    assert "echo hello" in answer.text


def test_editing_shows_what_is_stored_and_changes_it(browser, alice):
    browser.post(NEW, typed(jupyter="own", jupyter_packages="jupyterlab<5\n\nipykernel"))
    recipe = Recipe.objects.get()

    page = browser.get(f"/images/mine/{recipe.pk}/edit/")
    assert "jupyterlab&lt;5\nipykernel" in page.text
    assert 'name="name"' not in page.text
    answer = browser.post(f"/images/mine/{recipe.pk}/edit/", typed(requirements="rich\n"))

    recipe.refresh_from_db()
    assert answer.status_code == 302
    assert recipe.content["requirements"] == "rich\n"
    assert recipe.content["jupyter"]["choice"] == "none"


def test_a_build_that_is_refused_keeps_the_recipe(browser, alice):
    set_limits(subject=alice, values={"disk": 0}, actor=None)

    answer = browser.post(NEW, typed(action="build"), follow=True)

    assert Recipe.objects.get().name == "thesis"
    assert "is saved, but it is not being built" in answer.text


def test_a_recipe_starts_from_a_template_or_on_an_image(browser, alice, fake_engine):
    image = make_version(make_recipe(alice, "first"), fake_engine)

    vision = browser.get(f"{NEW}?start=cv").context["form"]
    on_image = browser.get(f"{NEW}?from={image.pk}").context["form"]
    added = browser.get(f"{NEW}?add=einops==0.8.0&apt=git").context["form"]
    odd = browser.get(f"{NEW}?start=%00&from=99999999999999999999")

    assert vision.typed("use_case") == "cv"
    assert vision.typed("jupyter") == "default"
    assert on_image.typed("base") == "custom:alice/first:1"
    assert added.typed("requirements") == "einops==0.8.0"
    assert added.typed("apt") == "git"
    assert odd.status_code == 200


def test_what_can_be_built_on_is_own_shared_and_the_catalogue(browser, alice, bob, fake_engine):
    make_version(make_recipe(alice, "mine"), fake_engine)
    make_version(make_recipe(bob, "unshared"), fake_engine)
    make_version(make_recipe(bob, "open", sharing="everybody"), fake_engine)

    page = browser.get(NEW)

    assert 'value="custom:alice/mine"' in page.text
    assert 'value="custom:bob/open:1"' in page.text
    assert "unshared" not in page.text
    assert 'value="catalog:alpha::"' in page.text
    assert 'value="reference"' not in page.text, "no other image is allowed here"


# ---- The side -----------------------------------------------------------------------------------


def test_the_preview_shows_the_dockerfile_and_changes_nothing(browser):
    before = count_everything()

    answer = browser.post(PREVIEW, typed())

    assert answer.status_code == 200
    assert "Ready to build." in answer.text
    assert f'<span class="df-key">FROM</span> {BASE_REFERENCE}' in answer.text
    assert "einops&gt;=0.8" in answer.text
    assert "manage.py build_image alice thesis --framework alpha --version 2.1.0" in answer.text
    assert count_everything() == before


def test_a_finding_leads_to_its_field_and_line(browser):
    answer = browser.post(PREVIEW, typed(requirements="einops\n\n-e .\n"))

    assert "1 thing stands in the way." in answer.text
    assert 'data-goto="requirements" data-goto-line="3"' in answer.text
    assert 'data-bad-line="requirements:3"' in answer.text
    assert "data-dockerfile-missing" in answer.text


def test_a_wrong_variable_and_a_wrong_entry_are_found_by_their_lines(browser):
    sent = typed(
        environment="GOOD=1\n\nLD_PRELOAD=/x",
        use_case="custom",
        use_case_packages="timm\n\n--index-url=x",
    )

    text = browser.post(PREVIEW, sent).text

    assert 'data-bad-line="environment:3"' in text
    assert 'data-bad-line="use_case_packages:3"' in text


def test_what_is_typed_cannot_write_into_the_page(browser):
    evil = "</pre><script>alert(1)</script>"

    texts = [
        browser.post(PREVIEW, typed(name=evil, requirements=evil, apt=evil)).text,
        browser.post(PREVIEW, typed(environment=f"A={evil}")).text,
        browser.post(NEW, typed(base=f"custom:{evil}", description=evil)).text,
    ]

    for text in texts:
        assert "<script>alert" not in text
        assert "&lt;/pre&gt;&lt;script&gt;" in text or "&lt;script&gt;" in text


# ---- Files --------------------------------------------------------------------------------------


def upload(name: str, text: str) -> SimpleUploadedFile:
    return SimpleUploadedFile(name, text.encode())


def test_a_requirements_file_is_read_into_the_form(browser):
    file = upload("requirements.txt", "rich==13.*\n")

    answer = browser.post(IMPORT, {"requirements_file": file, "requirements": "einops"})

    assert answer.json()["text"] == "einops\nrich==13.*\n"


def test_an_environment_file_is_read_and_tells_what_is_left_out(browser):
    text = "dependencies:\n  - python=3.11\n  - numpy=1.26\n  - pip:\n    - einops>=0.8\n"

    answer = browser.post(IMPORT, {"requirements_file": upload("environment.yml", text)})

    assert "einops>=0.8" in answer.json()["text"]
    assert answer.json()["notes"]


@pytest.mark.parametrize(
    ("name", "text"),
    [("packed.zip", "PK"), ("big.txt", "x" * 200_000), ("a.txt", "\0"), ("..", "einops")],
)
def test_a_file_that_cannot_be_read_is_refused_with_the_reason(browser, name, text):
    answer = browser.post(IMPORT, {"text": text, "filename": name})

    assert answer.status_code == 422
    assert "is not read" in answer.json()["error"]


def test_without_scripts_the_file_comes_with_the_form(browser):
    file = upload("requirements.txt", "rich==13.*\n")

    read = browser.post(NEW, typed(action="upload", requirements_file=file))
    assert "rich==13.*" in read.text
    assert not Recipe.objects.exists()

    bad = upload("x.zip", "PK\x03\x04")
    refused = browser.post(NEW, typed(action="save", requirements_file=bad))
    assert refused.status_code == 422
    assert "is not read" in refused.text
    assert "einops&gt;=0.8" in refused.text
    assert not Recipe.objects.exists()


# ---- The page of an image -----------------------------------------------------------------------


def test_the_page_shows_versions_recipe_and_sizes(browser, alice, fake_engine):
    recipe = make_recipe(alice, description="for my thesis", content=write_content(apt=["git"]))
    make_version(recipe, fake_engine)
    make_version(recipe, fake_engine)

    text = browser.get(recipe.get_absolute_url()).text

    assert "version 2 is the latest" in text
    assert "900 MB: 100 MB its own, 800 MB shared with its base" in text
    assert "only yours" in text
    assert '<span class="df-key">FROM</span>' in text


def test_a_version_leads_to_the_page_of_its_image(browser, alice, fake_engine):
    recipe = make_recipe(alice)
    image = make_version(recipe, fake_engine)

    assert browser.get(image.get_absolute_url()).url == recipe.get_absolute_url()


def test_the_dockerfile_is_a_file(browser, alice):
    recipe = make_recipe(alice)

    answer = browser.get(f"/images/mine/{recipe.pk}/Dockerfile")

    assert answer["Content-Disposition"] == 'attachment; filename="Dockerfile"'
    assert answer.text.splitlines()[3] == f"FROM {BASE_REFERENCE}"


def test_verbs_act_and_lead_on(browser, alice, fake_engine):
    recipe = make_recipe(alice)
    make_version(recipe, fake_engine)
    do = f"/images/mine/{recipe.pk}/do"

    renamed = browser.post(f"{do}/rename/", {"name": "paper"})
    group = Group.objects.get(name="student")
    shared = browser.post(f"{do}/share/", {"sharing": "group", "group": group.pk})
    forked = browser.post(f"{do}/fork/", {"name": "copy"})
    built = browser.post(f"{do}/build/", {"fresh": "on"})

    recipe.refresh_from_db()
    copy = Recipe.objects.get(name="copy")
    assert (recipe.name, recipe.sharing, recipe.shared_group) == ("paper", "group", group)
    assert (renamed.url, shared.url) == (recipe.get_absolute_url(),) * 2
    assert forked.url == f"/images/mine/{copy.pk}/edit/"
    assert built.url == Build.objects.get(fresh=True).get_absolute_url()


def test_a_rebuild_on_a_newer_base_changes_the_recipe(browser, alice, fake_engine):
    recipe = make_recipe(alice, content=write_content(base={**write_content()["base"]}))
    Image.objects.catalogue().filter(version="2.1.0-extra").update(position=0)
    page = browser.get(recipe.get_absolute_url())
    newer = Image.objects.get(version="2.1.0-extra")
    assert "A newer base exists" in page.text

    answer = browser.post(f"/images/mine/{recipe.pk}/do/build/", {"base_version": newer.pk})
    unknown = browser.post(f"/images/mine/{recipe.pk}/do/build/", {"base_version": "77"})

    recipe.refresh_from_db()
    assert answer.status_code == 302
    assert recipe.content["base"]["version"] == "2.1.0-extra"
    assert unknown.status_code == 422


def test_a_refused_verb_is_said_on_the_page_with_what_was_typed(browser, alice):
    recipe = make_recipe(alice)
    make_recipe(alice, "taken")

    answer = browser.post(f"/images/mine/{recipe.pk}/do/rename/", {"name": "taken"})

    assert answer.status_code == 422
    assert "You have an image named taken already." in answer.text
    assert re.search(r'id="rename-name" name="name" value="taken"', answer.text)
    assert re.search(r'id="rename-dialog"[^>]* data-open-now', answer.text)


def test_deleting_asks_with_what_goes_and_is_refused_while_busy(browser, alice, fake_engine):
    recipe = make_recipe(alice)
    make_version(recipe, fake_engine)
    assert (
        "The recipe and 1 version; 100 MB become free."
        in browser.get(recipe.get_absolute_url()).text
    )

    request_build(recipe=recipe, actor=alice)
    refused = browser.post(f"/images/mine/{recipe.pk}/do/delete/")
    assert refused.status_code == 422
    assert "cannot be deleted now" in refused.text
    recipe.refresh_from_db()
    assert recipe.deleted_at is None


def test_a_version_and_an_image_are_deleted(browser, alice, fake_engine):
    recipe = make_recipe(alice)
    image = make_version(recipe, fake_engine)
    make_version(recipe, fake_engine)

    one = browser.post(f"/images/mine/{recipe.pk}/versions/1/delete/")
    again = browser.post(f"/images/mine/{recipe.pk}/versions/1/delete/")
    whole = browser.post(f"/images/mine/{recipe.pk}/do/delete/")

    image.refresh_from_db()
    recipe.refresh_from_db()
    assert image.is_retired
    assert (one.status_code, again.status_code, whole.url) == (302, 404, "/images/")
    assert recipe.deleted_at is not None
    assert browser.get(recipe.get_absolute_url()).status_code == 404
    assert browser.get(image.get_absolute_url()).status_code == 410


# ---- Who sees what ------------------------------------------------------------------------------


def addresses(recipe: Recipe) -> dict[str, list[str]]:
    """Return every address about an image, by method."""
    mine = f"/images/mine/{recipe.pk}"
    verbs = ("build", "share", "rename", "fork", "delete")
    return {
        "get": [f"{mine}/", f"{mine}/edit/", f"{mine}/Dockerfile"],
        "post": [
            f"{mine}/edit/",
            f"{mine}/preview/",
            f"{mine}/versions/1/delete/",
            *(f"{mine}/do/{verb}/" for verb in verbs),
        ],
    }


def test_a_stranger_finds_nothing_and_changes_nothing(alice, charlie, fake_engine):
    recipe = make_recipe(alice, "secret")
    image = make_version(recipe, fake_engine)
    stranger, before = browser_of(charlie), count_everything()

    paths = addresses(recipe)
    answers = [stranger.get(path) for path in [*paths["get"], image.get_absolute_url()]]
    answers += [stranger.post(path, typed(name="copy")) for path in paths["post"]]

    assert {answer.status_code for answer in answers} == {404}
    assert "secret" not in stranger.get("/images/").text
    assert "alice/secret" not in stranger.get(f"{NEW}?from={image.pk}").text
    preview = stranger.post(PREVIEW, typed(base="custom:alice/secret")).text
    assert "There is no image “alice/secret”." in preview
    assert count_everything() == before


def test_who_an_image_is_shared_with_sees_and_copies_it_only(alice, bob, fake_engine):
    recipe = make_recipe(alice, sharing="group", shared_group=Group.objects.get(name="student"))
    make_version(recipe, fake_engine)
    member = browser_of(bob)
    paths = addresses(recipe)

    page = member.get(recipe.get_absolute_url())
    assert page.status_code == 200
    for words in ("share-dialog", "delete-dialog", "rename-dialog", "/edit/"):
        assert words not in page.text
    assert "alice/thesis" in member.get("/images/").text
    for path in paths["post"]:
        expected = 302 if path.endswith("/fork/") else 404
        assert member.post(path, typed(name="copy")).status_code == expected, path
    assert Recipe.objects.get(name="copy").owner == bob
    recipe.refresh_from_db()
    assert (recipe.name, recipe.deleted_at) == ("thesis", None)


def test_those_who_are_not_signed_in_are_sent_to_sign_in(alice):
    recipe = make_recipe(alice)
    for path in addresses(recipe)["get"]:
        answer = Client().get(path)
        assert answer.status_code == 302
        assert "login" in answer.url


def test_an_unknown_verb_is_no_page(browser, alice):
    recipe = make_recipe(alice)

    assert browser.post(f"/images/mine/{recipe.pk}/do/explode/").status_code == 404
    assert browser.get(f"/images/mine/{recipe.pk}/do/delete/").status_code == 405


# ---- The list -----------------------------------------------------------------------------------


def test_the_list_teaches_who_has_none_and_shows_those_there_are(browser, alice, fake_engine):
    assert "Build your first image" in browser.get("/images/").text
    make_version(make_recipe(alice), fake_engine)

    text = browser.get("/images/").text

    assert "Build your first image" not in text
    assert "900 MB, 100 MB of them its own" in text


def test_the_list_costs_the_same_for_many_images(
    browser, alice, fake_engine, django_assert_max_num_queries
):
    for number in range(6):
        make_version(make_recipe(alice, f"image-{number}"), fake_engine)

    with django_assert_max_num_queries(30):
        browser.get("/images/")


def test_a_line_that_is_rendered_keeps_its_text():
    assert render_line("a < b & c") == "a &lt; b &amp; c"


def test_editing_a_recipe_on_a_local_image_keeps_its_base(
    client: Client, alice: Person, demo_image: Image
) -> None:
    """It is stored by its name, and has a button of its own."""
    client.force_login(alice)
    recipe = Recipe.objects.create(
        owner=alice,
        name="on-local",
        content={"base": {"kind": "reference", "reference": "ds01/demo-python:1"}},
    )

    page = client.get(f"/images/mine/{recipe.pk}/edit/").content.decode()

    assert re.search(r'value="reference:ds01/demo-python:1"[^>]* checked', page)
    assert "is not offered any more" not in page
