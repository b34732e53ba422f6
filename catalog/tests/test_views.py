"""The pages: found by what people type, honest about what runs here, constant in queries."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from catalog.models import Image
from catalog.services.hosts import record_host_facts
from catalog.services.images import allow_local_image, retire_image
from catalog.services.pulls import request_pull
from catalog.services.sync import sync_catalog
from catalog.tests.engines import make_details

pytestmark = pytest.mark.django_db
LIST = "/images/"


@pytest.fixture
def ada_host(catalogue):
    record_host_facts(driver_version="560.35.03", cuda_version=(12, 6))


def text_of(response):
    assert response.status_code == 200
    return response.content.decode()


def test_a_stranger_is_sent_to_sign_in(catalogue):
    for url in (LIST, catalogue[0].get_absolute_url()):
        response = Client().get(url)
        assert response.status_code == 302
        assert reverse("account_login") in response["Location"]


def test_pages_are_only_read(alice_client, catalogue):
    assert alice_client.post(LIST).status_code == 405
    assert alice_client.post(catalogue[0].get_absolute_url()).status_code == 405


def test_the_newest_that_fits_is_offered_as_the_default(alice_client, ada_host, catalogue):
    response = alice_client.get(LIST)

    text = text_of(response)
    shelf = response.context["shelves"][0]
    assert (shelf.name, shelf.default.image.version) == ("Alpha", "2.1.0-extra")
    assert "Launch 2.1.0-extra" in text
    assert "CUDA_ADA, from the NVIDIA driver (CUDA 12.6)" in text


def test_what_the_driver_cannot_run_is_marked_with_its_reason(alice_client, ada_host, catalogue):
    text = text_of(alice_client.get(LIST))
    page = text_of(alice_client.get(catalogue[0].get_absolute_url()))

    reason = "needs CUDA 12.8; the driver of this machine runs up to CUDA 12.6"
    assert reason.capitalize().replace("cuda", "CUDA") in text
    assert "cannot run here:" in text
    assert "Does not run on this machine" in page
    assert reason in page
    assert f"?image={catalogue[0].pk}" not in page


def test_without_a_driver_nothing_is_a_default(alice_client, catalogue):
    response = alice_client.get(LIST)

    assert "Architecture not known" in text_of(response)
    assert all(shelf.default is None for shelf in response.context["shelves"])
    assert sum(len(group.items) for group in response.context["shelves"][0].groups) == 4


@pytest.mark.parametrize(
    ("query", "versions"),
    [
        ("q=alpha+cuda11", ["2.1.0", "2.0.0"]),
        ("q=PyTorch", ["2.0.1"]),
        ("framework=tensorflow", ["1.5.0"]),
        ("version=2.1", ["2.1.0-extra", "2.1.0"]),
        ("architecture=CUDA_AMPERE", ["2.1.0", "2.0.0"]),
        ("place=here", ["2.0.0"]),
        ("place=away&framework=alpha", ["2.1.0-extra", "2.1.0", "3.0.0"]),
        ("q=nothing+like+this", []),
        ("framework=<script>", ["2.1.0-extra", "2.1.0", "2.0.0", "3.0.0", "2.0.1", "1.5.0"]),
    ],
)
def test_images_are_found(alice_client, ada_host, query, versions):
    Image.objects.filter(version="2.0.0").update(engine_image_id="sha256:1", size_bytes=2**33)

    response = alice_client.get(f"{LIST}?{query}")

    found = [
        item.image.version
        for shelf in response.context["shelves"]
        for group in shelf.groups
        for item in group.items
    ]
    assert found == versions
    assert ("Nothing matches" in text_of(response)) is (not versions)
    assert "<script>" not in text_of(response).replace("<script src", "").replace(
        "<script nonce", ""
    )


def test_sizes_and_places_are_shown(alice_client, ada_host, catalogue):
    Image.objects.filter(version="2.0.0").update(engine_image_id="sha256:1", size_bytes=2**33)

    assert "8.0\xa0GB" in text_of(alice_client.get(LIST))
    page = text_of(alice_client.get(catalogue[3].get_absolute_url()))
    assert "8.0\xa0GB" in page
    assert "On this machine" in page


def test_an_empty_catalogue_says_what_to_do(alice_client):
    assert "The catalogue is empty" in text_of(alice_client.get(LIST))


def test_an_image_shows_how_to_launch_it(alice_client, ada_host, catalogue):
    page = text_of(alice_client.get(catalogue[2].get_absolute_url()))

    assert f"{reverse('container-launch')}?image={catalogue[2].pk}" in page
    assert "create_container alice NAME --framework alpha --version 2.1.0 --arch CUDA_ADA" in page
    assert "2.1.0-extra" in page
    assert "The first launch pulls it" in page


def test_a_pull_under_way_is_shown(alice_client, ada_host, catalogue, admin_person):
    operation = request_pull(image=catalogue[2], actor=admin_person)
    type(operation).objects.filter(pk=operation.pk).update(
        state="running", percent=37.5, message="3 of 8 GB"
    )

    page = text_of(alice_client.get(catalogue[2].get_absolute_url()))

    assert "On its way" in page
    assert 'value="37.5"' in page
    assert "3 of 8 GB" in page


def test_a_retired_image_is_not_offered_and_says_so(alice_client, catalogue, admin_person):
    image = retire_image(image=catalogue[2], actor=admin_person, reason="a library is broken")

    page = text_of(alice_client.get(image.get_absolute_url()))

    assert "a library is broken" in page
    assert "nothing new starts from it" in page
    assert image.get_absolute_url() not in text_of(alice_client.get(LIST))


def test_local_images_are_listed_and_hidden_ones_do_not_exist(
    alice_client, ada_client, admin_person, engine
):
    engine.images = {name: make_details(name) for name in ("lab/vision:v4", "lab/secret:1")}
    shown = allow_local_image(reference="lab/vision:v4", actor=admin_person)
    hidden = allow_local_image(reference="lab/secret:1", actor=admin_person, visible=False)

    text = text_of(alice_client.get(LIST))

    assert "lab/vision:v4" in text
    assert "lab/secret:1" not in text
    assert "--image lab/vision:v4" in text_of(alice_client.get(shown.get_absolute_url()))
    assert alice_client.get(hidden.get_absolute_url()).status_code == 404
    assert ada_client.get(hidden.get_absolute_url()).status_code == 200
    assert alice_client.get("/images/999999/").status_code == 404


def test_the_number_of_queries_does_not_grow_with_the_catalogue(alice_client, ada_host, catalogue):
    def count(url):
        with CaptureQueriesContext(connection) as captured:
            text_of(alice_client.get(url))
        return len(captured)

    few = [count(LIST), count(catalogue[2].get_absolute_url())]
    sync_catalog(allow_shrink=True)
    big = Image.objects.active().filter(framework_slug="pytorch").first()
    many = [count(LIST), count(big.get_absolute_url())]

    assert many == few
    assert max(many) <= 12


def test_names_are_escaped(alice_client, catalogue):
    Image.objects.filter(pk=catalogue[0].pk).update(framework="<b>x</b>", version="<i>1</i>")

    for url in (LIST, catalogue[0].get_absolute_url()):
        assert "<b>x</b>" not in text_of(alice_client.get(url))
