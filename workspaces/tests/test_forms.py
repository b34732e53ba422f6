"""The launch form: bad input is refused beside its field, and nothing is made."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.http import QueryDict

from catalog.models import Image
from ds01portal.models import Event, Operation
from workspaces.forms import GB, LaunchForm
from workspaces.models import Assignment, Container, SharedFolder

pytestmark = pytest.mark.django_db


def filled(**values: Any) -> QueryDict:
    data = QueryDict(mutable=True)
    for name, value in values.items():
        data.setlist(name, value if isinstance(value, list) else [str(value)])
    return data


def test_a_filled_form_becomes_the_request_it_says(alice, demo_image, tmp_path):
    shared = SharedFolder.objects.create(name="imagenet", purpose="data", path=str(tmp_path))
    key = str(uuid.uuid4())
    data = filled(
        image=demo_image.pk,
        device=["GPU-a", "GPU-b"],
        cpus="1.5",
        memory="2",
        name="thesis",
        workspace="projects/bert",
        data_folder=shared.pk,
        request_key=key,
    )

    form = LaunchForm(data, owner=alice, images=[demo_image], folders=[shared])

    assert form.is_valid(), form.errors
    wish = form.to_request()
    assert (wish.owner, wish.name, wish.image) == (alice, "thesis", demo_image)
    assert wish.device_uuids == ("GPU-a", "GPU-b")
    assert (wish.cpus, wish.memory) == (1.5, 2 * GB)
    assert (wish.data, wish.models) == (shared, None)
    assert (wish.workspace, wish.request_key) == ("projects/bert", key)


def test_empty_sizes_leave_the_choice_to_the_limits(alice, demo_image):
    form = LaunchForm(
        filled(image=demo_image.pk, name="thesis"), owner=alice, images=[demo_image], folders=[]
    )

    assert form.is_valid(), form.errors
    wish = form.to_request()
    assert (wish.cpus, wish.memory, wish.device_count) == (None, None, 0)


def test_a_token_that_somebody_made_up_is_no_token(alice, demo_image):
    data = filled(image=demo_image.pk, name="thesis", request_key="x' OR 1=1")
    form = LaunchForm(data, owner=alice, images=[demo_image], folders=[])

    assert form.is_valid(), form.errors
    assert form.to_request().request_key == ""


BAD_INPUT = [
    ("name", {"name": ""}, "The container needs a name."),
    ("name", {"name": "has space"}, "is not a container name"),
    ("name", {"name": "../etc"}, "is not a container name"),
    ("name", {"name": "a" * 61}, "is not a container name"),
    ("name", {"name": "a" * 500}, "at most 200 characters"),
    ("name", {"name": "a,b"}, "is not a container name"),
    ("name", {"name": "café"}, "is not a container name"),
    ("name", {"name": "x._.0"}, "is not a container name"),
    ("name", {"name": "a\x00b"}, "Null characters are not allowed."),
    ("name", {"name": "<script>"}, "is not a container name"),
    ("image", {"image": ""}, "Choose what to start from."),
    ("image", {"image": "999999"}, "This image is not offered here."),
    ("image", {"image": "0 OR 1=1"}, "This image is not offered here."),
    ("image", {"image": "-1"}, "This image is not offered here."),
    ("gpus", {"gpus": "-1"}, "greater than or equal to 0"),
    ("gpus", {"gpus": "1.5"}, "Enter a whole number."),
    ("gpus", {"gpus": "99999999999999999999"}, "less than or equal to 64"),
    ("device", {"gpus": "3"}, "your limit is 2"),
    ("device", {"device": ["GPU-nobody-has-this"]}, "not free any more"),
    ("device", {"device": [f"GPU-{number}" for number in range(65)]}, "Pick fewer devices."),
    ("cpus", {"cpus": "0"}, "greater than or equal to 0.1"),
    ("cpus", {"cpus": "nan"}, "Enter a number."),
    ("cpus", {"cpus": "inf"}, "Enter a number."),
    ("cpus", {"cpus": "33"}, "your limit per container is 32"),
    ("memory", {"memory": "-5"}, "greater than or equal to"),
    ("memory", {"memory": "1e300"}, "less than or equal to"),
    ("memory", {"memory": "33"}, "your limit per container is 32 GB"),
    ("memory", {"memory": "lots"}, "Enter a number."),
    ("workspace", {"workspace": "../other"}, "is not a folder below"),
    ("workspace", {"workspace": "/etc"}, "is not a folder below"),
    ("workspace", {"workspace": "a/../../b"}, "is not a folder below"),
    ("workspace", {"workspace": "a,b"}, "is not a folder below"),
    ("workspace", {"workspace": "a" * 201}, "is not a folder below"),
    ("data_folder", {"data_folder": "424242"}, "Select a valid choice."),
    ("models_folder", {"models_folder": "../etc"}, "Select a valid choice."),
]


@pytest.mark.parametrize(("field", "values", "words"), BAD_INPUT)
def test_bad_input_is_refused_beside_its_field_and_changes_nothing(
    client, portal, alice, demo_image, field, values, words
):
    client.force_login(alice)
    good = {"image": demo_image.pk, "name": "thesis", "request_key": uuid.uuid4()}

    response = client.post("/launch/", dict(filled(**{**good, **values}).lists()))

    assert response.status_code == 422
    assert words in " ".join(response.context["form"].errors[field])
    assert not Container.objects.exists()
    assert not Operation.objects.exists()
    assert not Assignment.objects.exists()
    assert not Event.objects.filter(subject_kind="container").exists()


def test_a_folder_of_another_group_cannot_be_chosen(client, portal, charlie, alice, demo_image):
    folder = SharedFolder.objects.create(name="faces", purpose="data", path="/srv/faces")
    folder.groups.set(charlie.groups.all())
    client.force_login(alice)

    response = client.post(
        "/launch/", filled(image=demo_image.pk, name="thesis", data_folder=folder.pk)
    )

    assert response.status_code == 422
    assert "Select a valid choice." in str(response.context["form"].errors["data_folder"])
    assert not Container.objects.exists()


def test_a_local_image_for_admins_only_cannot_be_launched_by_its_number(
    client, portal, alice, demo_image
):
    hidden = Image.objects.create(
        kind="local",
        framework="Lab",
        framework_slug="lab",
        version="1",
        reference="lab/secret:1",
        engine_image_id="sha256:x",
        visible=False,
    )
    client.force_login(alice)

    response = client.post("/launch/", filled(image=hidden.pk, name="thesis"))

    assert response.status_code == 422
    assert "This image is not offered here." in str(response.context["form"].errors["image"])
    assert b"lab/secret" not in response.content
