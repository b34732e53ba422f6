"""Custom images where containers are launched and shown: first on the page, and newer ones told."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from catalog.models import Image, Recipe
from catalog.tests.recipe_players import make_recipe, make_version
from ds01portal.models import Person
from workspaces.models import Container

pytestmark = pytest.mark.django_db


def browser_of(person: Person) -> Client:
    """Return a browser that is signed in."""
    client = Client()
    client.force_login(person)
    return client


@pytest.fixture
def thesis(alice: Person, portal: Any) -> Recipe:
    """Alice's image with two versions."""
    recipe = make_recipe(alice)
    make_version(recipe, portal)
    make_version(recipe, portal)
    return recipe


def version(recipe: Recipe, number: int) -> Image:
    """Return one version."""
    return recipe.images.get(number=number)


def test_the_launch_page_offers_own_images_first_and_what_is_shared(alice, bob, portal, thesis):
    shared = make_recipe(bob, "course", sharing="everybody")
    make_version(shared, portal)
    make_version(make_recipe(bob, "unshared"), portal)

    page = browser_of(alice).get("/launch/")

    mine, others = page.context["mine"], page.context["shared"]
    assert [(shelf.name, len(shelf.older)) for shelf in mine] == [("thesis", 1)]
    assert [shelf.name for shelf in others] == ["bob/course"]
    assert page.text.index("Your images") < page.text.index("Shared with you")
    assert "unshared" not in page.text


def test_a_link_chooses_a_version_and_names_the_container_after_the_image(alice, thesis):
    old = version(thesis, 1)

    page = browser_of(alice).get(f"/launch/?image={old.pk}")

    assert page.context["chosen"] == str(old.pk)
    assert page.context["mine"][0].older_open
    assert page.context["form"].initial["name"] == "thesis-1"


def test_strangers_cannot_choose_it(charlie, thesis):
    image = version(thesis, 2)
    stranger = browser_of(charlie)

    page = stranger.get(f"/launch/?image={image.pk}")
    answer = stranger.post("/launch/", {"image": image.pk, "name": "mine"})

    assert page.context["chosen"] != str(image.pk)
    assert "thesis" not in page.text
    assert answer.status_code == 422
    assert not Container.objects.exists()


def test_a_container_says_when_a_newer_version_exists(alice, charlie, portal, thesis, ask, run_due):
    from workspaces.services.launch_images import image_fields

    old = version(thesis, 1)
    container = ask(alice, "run", **image_fields(old))
    run_due()
    browser = browser_of(alice)

    page = browser.get(container.get_absolute_url()).text
    cards = browser.get("/").text
    newest = version(thesis, 2)

    assert "A newer version of this image exists: thesis:2." in page
    assert f"/launch/?image={newest.pk}" in page
    assert "newer version thesis:2" in cards

    newest.retired_at, newest.retired_cause = newest.created_at, "deleted"
    newest.save()
    assert "newer version" not in browser.get(container.get_absolute_url()).text


def test_a_newer_version_is_not_told_once_the_image_is_not_shared(
    alice, bob, portal, thesis, ask, run_due
):
    from workspaces.services.launch_images import image_fields

    Recipe.objects.filter(pk=thesis.pk).update(sharing="everybody")
    container = ask(bob, "run", **image_fields(version(thesis, 1)))
    run_due()
    browser = browser_of(bob)
    assert "newer version" in browser.get(container.get_absolute_url()).text

    Recipe.objects.filter(pk=thesis.pk).update(sharing="private")

    assert "newer version" not in browser.get(container.get_absolute_url()).text
