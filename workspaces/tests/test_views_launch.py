"""The launch page: what it offers, what it refuses with a reason, and that it launches once."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from catalog.models import Image
from ds01portal.models import Person
from ds01portal.services.quotas import set_limits
from workspaces.models import Assignment, Container, Device, SharedFolder

pytestmark = pytest.mark.django_db
State = Container.State


def wish(image: Image, **values: Any) -> dict[str, Any]:
    return {"image": image.pk, "name": "thesis", "request_key": str(uuid.uuid4()), **values}


def devices(count: int) -> list[str]:
    rows = Device.objects.free().filter(kind="gpu").order_by("index")
    return [device.uuid for device in rows[:count]]


@pytest.fixture
def browser(client: Client, portal: Any, alice: Person) -> Client:
    """Alice's browser on a portal that is ready."""
    client.force_login(alice)
    return client


def test_a_filled_form_launches_and_leads_to_the_container(browser, alice, demo_image, run_due):
    picked = devices(2)

    answer = browser.post("/launch/", wish(demo_image, device=picked, cpus="2", memory="4"))

    container = Container.objects.get()
    assert answer.status_code == 302
    assert answer.url == f"/containers/{container.pk}/"
    assert container.owner == alice
    run_due()
    container.refresh_from_db()
    assert container.state == State.RUNNING
    assert (container.spec["cpus"], container.spec["memory"]) == (2, 4 * 1024**3)
    assert set(container.spec["devices"]) == set(picked)


def test_the_same_form_twice_gives_the_same_container(browser, demo_image):
    data = wish(demo_image, device=devices(1))

    first, second = browser.post("/launch/", data), browser.post("/launch/", data)

    assert first.url == second.url
    assert Container.objects.count() == 1
    assert Assignment.objects.live().count() == 1


def test_a_number_of_gpus_is_enough_without_scripts(browser, demo_image):
    browser.post("/launch/", wish(demo_image, gpus="2"))

    assert Assignment.objects.live().count() == 2


def test_all_that_stands_in_the_way_is_said_at_once(browser, demo_image):
    data = wish(demo_image, name="no good", cpus="99", workspace="../up", gpus="5")

    answer = browser.post("/launch/", data)

    assert answer.status_code == 422
    errors = answer.context["form"].errors
    assert set(errors) >= {"name", "cpus", "workspace", "device"}
    assert "4 things stand in the way." in answer.text
    assert 'value="no good"' in answer.text
    assert not Container.objects.exists()


def test_a_name_in_use_is_refused_beside_the_name(browser, alice, demo_image, launch):
    launch(alice, "thesis")

    answer = browser.post("/launch/", wish(demo_image))

    assert answer.status_code == 422
    assert "You have a container named thesis already." in str(
        answer.context["form"].errors["name"]
    )


def test_over_the_quota_is_another_refusal_than_a_full_machine(browser, alice, bob, demo_image):
    for device in Device.objects.filter(kind="gpu", index__gte=2):
        Device.objects.filter(pk=device.pk).update(drained=True)
    Device.objects.filter(kind="mig").update(drained=True)

    over = browser.post("/launch/", wish(demo_image, gpus="3"))
    assert "3 asked for — your limit is 2" in over.context["form"].errors["device"][0]
    Device.objects.filter(index=1).update(drained=True)
    full = browser.post("/launch/", wish(demo_image, gpus="2"))
    assert "1 of 1 devices are free now, 2 asked for." in full.context["form"].errors["device"][0]


def test_the_last_container_that_the_limit_allows(browser, alice, demo_image, launch):
    set_limits(subject=alice, values={"containers": 1}, actor=None)
    launch(alice, "only")

    page = browser.get("/launch/")
    assert "your limit leaves no further container" in page.text
    answer = browser.post("/launch/", wish(demo_image))
    assert answer.status_code == 422
    assert "your limit is 1 and 1 is in use" in answer.text


def test_what_cannot_be_chosen_is_shown_with_its_reason(browser, alice, bob, launch):
    launch(alice, "mine", devices=1)
    launch(bob, "his", devices=1)
    Device.objects.filter(index=2).update(drained=True, drain_reason="Fan is broken")

    page = browser.get("/launch/").text

    assert "In use by your container." in page
    assert "In use by somebody else." in page
    assert "Fan is broken" in page
    assert "his" not in {word.strip(" ·<>") for word in page.split()}
    presets = browser.get("/launch/").context["presets"]
    assert [preset.label for preset in presets] == ["CPU only", "1 GPU", "2 GPUs"]
    assert presets[2].reason == "your limit is 1 more; pick slices that fit below"


def test_a_limit_of_zero_gpus_is_said_on_every_device(browser, alice):
    set_limits(subject=alice, values={"devices_per_container": 0, "gpueq": 0}, actor=None)

    page = browser.get("/launch/")

    assert "Your limits allow no GPU." in page.text
    assert page.context["form"].initial["picked"] == set()
    assert all(preset.reason for preset in page.context["presets"][1:])


def test_links_choose_image_framework_and_version(browser, demo_image):
    old = Image.objects.create(
        framework="Pytorch",
        framework_slug="pytorch",
        version="2.7.1",
        architectures=";CUDA_ADA;",
        reference="lab/pytorch:2.7.1",
    )
    new = Image.objects.create(
        framework="Pytorch",
        framework_slug="pytorch",
        version="2.8.0",
        architectures=";CUDA_ADA;",
        reference="lab/pytorch:2.8.0",
    )
    for query, image in (
        (f"image={demo_image.pk}", demo_image),
        ("framework=torch&version=2.7.1", old),
        ("framework=pytorch", old),
        ("", old),
        ("image=999999", old),
        ("framework=nothing", old),
        ("again=not-a-uuid", old),
    ):
        page = browser.get(f"/launch/?{query}")
        assert page.context["form"].initial["image"] == image.pk, query
    assert new.pk != old.pk


def test_a_failed_launch_can_be_tried_again_with_its_own_choices(browser, alice, ask, run_due):
    container = ask(alice, "thesis", workspace="bert")
    Container.objects.filter(pk=container.pk).update(state=State.FAILED)

    initial = browser.get(f"/launch/?again={container.pk}").context["form"].initial

    assert (initial["name"], initial["workspace"]) == ("thesis", "bert")


def test_somebody_elses_launch_is_not_taken_over(browser, bob, ask):
    container = ask(bob, "secret-plan")

    page = browser.get(f"/launch/?again={container.pk}")

    assert page.status_code == 200
    assert "secret-plan" not in page.text


def test_shared_folders_are_offered_to_those_who_may_see_them(
    browser, alice, charlie, demo_image, settings
):
    root = Path(settings.DS01_SHARED_ROOTS[0])
    (root / "imagenet").mkdir(parents=True)
    open_to_all = SharedFolder.objects.create(
        name="imagenet", purpose="data", path=str(root / "imagenet")
    )
    faces = SharedFolder.objects.create(name="faces", purpose="data", path=str(root / "faces"))
    faces.groups.set(charlie.groups.all())

    page = browser.get("/launch/").text
    assert "imagenet" in page
    assert "faces" not in page
    browser.post("/launch/", wish(demo_image, data_folder=open_to_all.pk))
    assert Container.objects.get().data == open_to_all


# Pre-flight --------------------------------------------------------------------------------------


def test_preflight_says_all_and_makes_nothing(browser, demo_image):
    answer = browser.post("/launch/preflight/", wish(demo_image, device=devices(1)))

    assert answer.status_code == 200
    assert "Ready to launch." in answer.text
    assert "The name thesis is free." in answer.text
    assert (
        "manage.py create_container alice thesis --image ds01/demo-python:1 --gpus 1" in answer.text
    )
    assert not Container.objects.exists()
    assert not Assignment.objects.exists()


def test_the_command_quotes_what_people_typed(browser, demo_image):
    answer = browser.post("/launch/preflight/", wish(demo_image, name="a; rm -rf ~"))

    assert "&#x27;a; rm -rf ~&#x27; --image" in answer.text


def test_preflight_of_a_form_that_cannot_be_read_says_so(browser, demo_image):
    answer = browser.post(
        "/launch/preflight/", {**wish(demo_image), "image": "7777", "cpus": "many"}
    )

    assert answer.status_code == 200
    assert "This image is not offered here." in answer.text
    assert "Enter a number." in answer.text


def test_preflight_while_the_engine_is_away_warns_and_does_not_fail(browser, portal, demo_image):
    portal.go_down()

    answer = browser.post("/launch/preflight/", wish(demo_image))

    assert answer.status_code == 200
    assert "Docker Engine does not answer now." in answer.text
    assert "Ready to launch." in answer.text


def test_preflight_is_asked_by_post_only(browser):
    assert browser.get("/launch/preflight/").status_code == 405
    assert browser.put("/launch/").status_code == 405


def test_the_launch_page_asks_the_same_queries_for_1_and_20(
    browser, alice, launch, django_assert_num_queries
):
    launch(alice, "first", devices=1)
    browser.get("/launch/")
    with CaptureQueriesContext(connection) as one:
        browser.get("/launch/")
    Container.objects.bulk_create(
        Container(owner=alice, name=f"c{n}", engine_name=f"c{n}._.1", image_reference="i")
        for n in range(20)
    )
    with django_assert_num_queries(len(one)):
        browser.get("/launch/")
