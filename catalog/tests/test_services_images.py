"""Images of this machine: what is here, what an admin allows, retires and restores."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import IntegrityError, transaction
from django.utils import timezone

from catalog.models import Image
from catalog.services.images import (
    allow_local_image,
    refresh_engine_images,
    restore_image,
    retire_image,
)
from catalog.services.sync import sync_catalog
from catalog.tests.engines import GIGABYTE, make_details
from ds01portal.exceptions import EngineUnreachable, ImageRefused, InvalidInput
from ds01portal.models import Event

pytestmark = pytest.mark.django_db


def test_one_listing_says_which_images_are_here(catalogue, engine):
    engine.images = {
        "a": make_details("lab/alpha-2.1.0-cuda11.8.0:latest", image_id="sha256:1"),
        "b": make_details("docker.io/lab/alpha-2.0.0-cuda11.7:latest", image_id="sha256:2"),
        "c": make_details("lab/alpha-3.0.0-cuda12.8.1:thesis._.200001"),
        "d": make_details("something/else:latest"),
    }

    refresh = refresh_engine_images()

    here = Image.objects.on_engine().in_order()
    assert [image.version for image in here] == ["2.1.0", "2.0.0"]
    assert here[0].engine_image_id == "sha256:1"
    assert here[0].size_bytes == 8 * GIGABYTE
    assert here[0].last_seen_on_engine_at is not None
    assert refresh.arrived == refresh.present
    assert engine.listings == 1


def test_the_number_of_queries_does_not_grow_with_the_images(
    catalogue, engine, django_assert_max_num_queries
):
    sync_catalog(allow_shrink=True)
    engine.images = {image.reference: make_details(image.reference) for image in catalogue}
    refresh_engine_images()

    with django_assert_max_num_queries(5):
        refresh_engine_images()


def test_an_image_that_is_gone_keeps_its_size(catalogue, engine):
    engine.images = {"a": make_details("lab/alpha-2.1.0-cuda11.8.0")}
    refresh_engine_images()
    engine.images = {}

    refresh = refresh_engine_images()

    image = Image.objects.get(version="2.1.0")
    assert refresh.gone == (image.pk,)
    assert (image.is_on_engine, image.size_bytes) == (False, 8 * GIGABYTE)


def test_an_engine_that_does_not_answer_changes_nothing(catalogue, engine):
    engine.images = {"a": make_details("lab/alpha-2.1.0-cuda11.8.0")}
    refresh_engine_images()
    engine.unreachable = True

    with pytest.raises(EngineUnreachable):
        refresh_engine_images()

    assert Image.objects.get(version="2.1.0").is_on_engine


def test_an_admin_offers_an_image_of_this_machine(engine, admin_person, alice):
    engine.images = {"lab/vision:v4": make_details("lab/vision:v4")}

    image = allow_local_image(reference="lab/vision:v4", actor=admin_person)

    assert (image.kind, image.framework, image.version) == ("local", "Local", "v4")
    assert image in Image.objects.visible_to(alice).launchable()
    assert Event.objects.get(verb="allow").actor == admin_person


def test_offered_again_it_is_the_same_image(engine, admin_person):
    engine.images = {"lab/vision:v4": make_details("lab/vision:v4")}
    first = allow_local_image(reference="lab/vision:v4", actor=admin_person)
    retire_image(image=first, actor=admin_person)

    second = allow_local_image(
        reference="lab/vision:v4", actor=admin_person, framework="PyTorch", version="2.7"
    )

    assert second.pk == first.pk
    assert (second.framework_slug, second.version, second.is_retired) == ("pytorch", "2.7", False)


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"reference": "lab/nothing"}, ImageRefused, "no image lab/nothing on this machine"),
        ({"reference": "Lab/Vision"}, InvalidInput, "lower case"),
        ({"reference": ""}, InvalidInput, "empty"),
        ({"reference": "lab/vision:v4", "framework": "a,b"}, InvalidInput, "be the framework"),
        ({"reference": "lab/vision:v4", "version": "1\n2"}, InvalidInput, "be the version"),
        ({"reference": "lab/vision:v4", "version": "x" * 65}, InvalidInput, "be the version"),
        ({"reference": "lab/alpha-2.1.0-cuda11.8.0:latest"}, ImageRefused, "in the catalogue"),
    ],
)
def test_what_cannot_be_offered_is_refused(catalogue, engine, admin_person, values, error, words):
    engine.images = {
        "lab/vision:v4": make_details("lab/vision:v4"),
        "lab/alpha-2.1.0-cuda11.8.0:latest": make_details("lab/alpha-2.1.0-cuda11.8.0"),
    }

    with pytest.raises(error, match=words):
        allow_local_image(actor=admin_person, **values)

    assert not Image.objects.local().exists()


def test_who_sees_what(catalogue, engine, admin_person, alice):
    engine.images = {"lab/secret:1": make_details("lab/secret:1")}
    hidden = allow_local_image(reference="lab/secret:1", actor=admin_person, visible=False)

    assert hidden not in Image.objects.visible_to(alice)
    assert hidden in Image.objects.visible_to(admin_person)
    assert not Image.objects.visible_to(AnonymousUser()).exists()


def test_a_local_image_that_is_gone_cannot_be_launched(engine, admin_person, alice):
    engine.images = {"lab/vision:v4": make_details("lab/vision:v4")}
    image = allow_local_image(reference="lab/vision:v4", actor=admin_person)
    engine.images = {}

    refresh_engine_images()

    image.refresh_from_db()
    assert not image.is_launchable
    assert image in Image.objects.visible_to(alice)
    assert image not in Image.objects.launchable()


def test_retire_and_restore_are_recorded_with_their_reason(catalogue, admin_person):
    image = retire_image(image=catalogue[0], actor=admin_person, reason=" has a bug ")

    assert (image.retired_cause, image.retired_reason) == ("admin", "has a bug")
    assert not image.is_launchable
    assert Event.objects.get(verb="retire").reason == "has a bug"

    image = restore_image(image=image, actor=admin_person)
    assert (image.retired_at, image.retired_reason) == (None, "")
    assert Event.objects.filter(verb="restore").count() == 1


def test_the_second_of_two_clicks_is_refused(catalogue, admin_person):
    retire_image(image=catalogue[0], actor=admin_person)

    with pytest.raises(ImageRefused, match="retired already"):
        retire_image(image=catalogue[0], actor=admin_person)
    restore_image(image=catalogue[0], actor=admin_person)
    with pytest.raises(ImageRefused, match="not retired"):
        restore_image(image=catalogue[0], actor=admin_person)

    assert Event.objects.filter(verb__in=["retire", "restore"]).count() == 2


def test_what_containers_are_labelled_with(catalogue):
    image = Image.objects.get(framework_slug="pytorch")

    assert image.framework_label == "Pytorch-2.0.1"
    assert str(image) == "PyTorch 2.0.1"
    assert [row.version for row in Image.objects.for_architecture("CUDA_AMPERE").in_order()] == [
        "2.1.0",
        "2.0.0",
    ]
    assert not Image.objects.for_architecture("CUDA").exists()


@pytest.mark.parametrize(
    "values",
    [
        {"version": "2.0.0", "architectures": ";CUDA_AMPERE;"},  # the same row twice
        {"version": "8", "architectures": ""},  # a catalogue row for no architecture
        {"version": "8", "architectures": ";CUDA;", "retired_at": timezone.now()},  # no cause
        {"version": "8", "architectures": ";CUDA;", "retired_cause": "admin"},  # not retired
    ],
)
def test_the_database_keeps_out_what_must_not_be(catalogue, values):
    with pytest.raises(IntegrityError), transaction.atomic():
        Image.objects.create(
            framework="Alpha", framework_slug="alpha", reference="lab/alpha-x", **values
        )
