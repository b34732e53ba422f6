"""The pages of containers, as stories: the owner's, and what strangers do not see."""

from __future__ import annotations

import json
import uuid

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from ds01portal.exceptions import EngineError
from ds01portal.models import Operation
from workspaces.models import Assignment, Container, Device
from workspaces.services import machine

pytestmark = pytest.mark.django_db
State = Container.State
HTMX = {"HX-Request": "true"}
TABS = ["detail", "terminal", "logs", "connect", "settings"]
FRAGMENTS = ["card", "progress", "bars", "usage", "log-lines", "log-download"]


def verb_url(container: Container, verb: str) -> str:
    return reverse("container-verb", args=[container.pk, verb])


def notice(response) -> dict[str, str]:
    return json.loads(response.headers["HX-Trigger"])["ds01:notice"]


def many(owner, count: int, **values) -> list[Container]:
    return Container.objects.bulk_create(
        Container(
            owner=owner,
            name=f"c-{number}",
            engine_name=f"c-{number}._.{owner.uid}",
            engine_id=f"id-{number}",
            image_reference="lab/image:1",
            **values,
        )
        for number in range(count)
    )


# The front page ----------------------------------------------------------------------------------


def test_the_first_sign_in_leads_to_the_first_container(client, portal, alice, demo_image):
    client.force_login(alice)

    page = client.get("/")

    assert page.status_code == 200
    assert "0 of 3 in use · 6 of 6 GPUs are free" in page.text
    assert "Your first container" in page.text
    assert f"/launch/?image={demo_image.pk}" in page.text
    form = client.get(f"/launch/?image={demo_image.pk}").context["form"]
    assert form.initial["image"] == demo_image.pk
    assert form.initial["name"] == "python-1"
    assert len(form.initial["picked"]) == 1


def test_the_front_page_says_what_runs_and_what_is_left(client, portal, alice, bob, launch):
    launch(alice, "thesis", devices=1)
    launch(bob, "bobs-own", devices=2)
    client.force_login(alice)

    page = client.get("/")

    assert "1 of 3 in use · 3 of 6 GPUs are free" in page.text
    assert "thesis" in page.text
    assert "1 × A100 40 GB (GPU 0)" in page.text
    assert "bobs-own" not in page.text
    assert "1 of 2" in page.text


def test_a_full_machine_says_when_the_next_gpu_is_free(client, portal, alice, bob, launch):
    launch(alice, "a", devices=2)
    Assignment.objects.update(hold_until="2030-01-01T12:00Z")
    Device.objects.exclude(assignments__isnull=False).update(drained=True)
    client.force_login(bob)

    page = client.get("/")

    assert "every GPU is taken" in page.text
    assert "next one free about" in page.text


def test_a_failed_launch_says_whose_turn_it_is_and_can_be_dismissed(
    client, portal, alice, ask, run_due
):
    container = ask(alice, "thesis")
    portal.fail_next("create_container", EngineError("Docker could not create it.", cause="boom"))
    run_due()
    client.force_login(alice)

    page = client.get("/")
    assert "Docker could not create it." in page.text
    assert "An admin has to act." in page.text
    assert "boom" in page.text
    assert f"/launch/?again={container.pk}" in page.text

    client.post(verb_url(container, "remove"))
    run_due()
    assert "Docker could not create it." not in client.get("/").text


def test_a_launch_under_way_shows_its_steps_and_can_be_cancelled(
    client, portal, alice, ask, run_due
):
    container = ask(alice, "thesis", devices=1)
    Operation.objects.update(phase="pull", percent=42.0, message="42 of 100 MB")
    client.force_login(alice)

    card = client.get(reverse("container-card", args=[container.pk]))
    assert "GPUs reserved" in card.text
    assert "42 of 100 MB" in card.text
    assert 'value="42.0"' in card.text
    assert verb_url(container, "cancel") in card.text

    answer = client.post(verb_url(container, "cancel"), headers=HTMX)
    assert answer.status_code == 200
    assert notice(answer)["level"] == "success"
    assert verb_url(container, "cancel") not in answer.text
    run_due()
    container.refresh_from_db()
    assert container.state == State.REMOVED
    assert not Assignment.objects.live().exists()
    # The card leaves the page.
    assert client.get(reverse("container-card", args=[container.pk])).text == ""


def test_a_stopped_container_says_why(client, portal, alice, launch, run_due):
    container = launch(alice, "thesis")
    client.force_login(alice)
    client.post(verb_url(container, "stop"))
    run_due()

    page = client.get("/")
    assert "It was stopped by its owner." in page.text
    assert f"/containers/{container.pk}/#story" in page.text


def test_a_silent_worker_is_said_on_the_front_page(client, portal, alice):
    machine.Machine.objects.update(worker_seen_at=None)
    client.force_login(alice)

    assert "The worker is not running." in client.get("/").text


def test_the_front_page_asks_the_same_queries_for_1_and_20(
    client, portal, alice, launch, django_assert_num_queries
):
    launch(alice, "first", devices=1)
    client.force_login(alice)
    client.get("/")
    with CaptureQueriesContext(connection) as one:
        client.get("/")
    many(alice, 20, state=State.RUNNING)
    with django_assert_num_queries(len(one)):
        page = client.get("/")
    assert page.text.count("<article") == 21


def test_200_containers_come_in_pages(client, portal, alice):
    many(alice, 200, state=State.STOPPED)
    client.force_login(alice)

    page = client.get("/?page=7")

    assert page.text.count("<article") == 20
    assert "Page 7 of 7, 200 containers" in page.text
    assert client.get("/?page=nonsense").status_code == 200
    assert client.get("/?page=9999").status_code == 200


# Verbs -------------------------------------------------------------------------------------------


def test_stop_start_pause_and_remove_from_the_page(client, portal, alice, launch, run_due):
    container = launch(alice, "thesis")
    client.force_login(alice)
    for verb, state in (
        ("pause", State.PAUSED),
        ("resume", State.RUNNING),
        ("restart", State.RUNNING),
        ("stop", State.STOPPED),
        ("start", State.RUNNING),
        ("remove", State.REMOVED),
    ):
        answer = client.post(verb_url(container, verb), {"next": "/machine/"})
        assert answer.status_code == 302
        assert answer.url == ("/" if verb == "remove" else "/machine/")
        run_due()
        container.refresh_from_db()
        assert container.state == state


def test_htmx_gets_the_card_and_a_notice(client, portal, alice, launch):
    container = launch(alice, "thesis")
    client.force_login(alice)

    answer = client.post(verb_url(container, "pause"), headers=HTMX)

    assert answer.status_code == 200
    assert answer.text.strip().startswith("<article") or f'id="c-{container.pk}"' in answer.text
    assert "Pausing" in answer.text
    assert notice(answer) == {"level": "success", "text": "thesis is being paused."}


def test_a_second_click_does_no_harm(client, portal, alice, launch, run_due):
    container = launch(alice, "thesis")
    client.force_login(alice)

    assert client.post(verb_url(container, "stop")).status_code == 302
    assert client.post(verb_url(container, "stop")).status_code == 302
    assert Operation.objects.filter(kind="stop").count() == 1
    run_due()
    container.refresh_from_db()
    assert container.state == State.STOPPED


def test_what_is_refused_is_shown_word_for_word(client, portal, alice, launch):
    container = launch(alice, "thesis")
    client.force_login(alice)

    answer = client.post(verb_url(container, "start"))
    assert answer.status_code == 409
    assert "thesis is running; start is not possible then." in answer.text
    assert "Possible now: stop, restart, pause, remove." in answer.text

    fragment = client.post(verb_url(container, "start"), headers=HTMX)
    assert fragment.status_code == 422
    assert "thesis is running; start is not possible then." in notice(fragment)["text"]
    assert f'id="c-{container.pk}"' in fragment.text
    container.refresh_from_db()
    assert container.state == State.RUNNING


def test_another_verb_while_one_is_under_way_is_refused(client, portal, alice, launch):
    container = launch(alice, "thesis")
    client.force_login(alice)
    client.post(verb_url(container, "stop"))

    answer = client.post(verb_url(container, "remove"))

    assert answer.status_code == 409
    assert "thesis is busy: stop is under way." in answer.text


def test_a_cancel_without_a_launch_is_refused(client, portal, alice, launch):
    container = launch(alice, "thesis")
    client.force_login(alice)

    answer = client.post(verb_url(container, "cancel"))

    assert answer.status_code == 409
    assert "There is no launch of thesis to cancel any more." in answer.text


@pytest.mark.parametrize(
    "verb", ["start", "stop", "restart", "pause", "resume", "remove", "cancel"]
)
def test_verbs_are_never_carried_out_by_a_link(client, portal, alice, launch, verb):
    container = launch(alice, "thesis")
    client.force_login(alice)

    assert client.get(verb_url(container, verb)).status_code == 405
    container.refresh_from_db()
    assert container.state == State.RUNNING


def test_an_unknown_verb_is_not_found(client, portal, alice, launch):
    container = launch(alice, "thesis")
    client.force_login(alice)

    assert client.post(verb_url(container, "rename")).status_code == 404
    assert client.post(verb_url(container, "__class__")).status_code == 404


def test_a_form_does_not_lead_to_another_site(client, portal, alice, launch):
    container = launch(alice, "thesis")
    client.force_login(alice)

    for target in ("https://evil.example/", "//evil.example/", "javascript:alert(1)"):
        answer = client.post(verb_url(container, "pause"), {"next": target})
        assert answer.url == container.get_absolute_url()


# Strangers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", TABS + FRAGMENTS)
def test_strangers_get_404_on_every_part(client, portal, alice, bob, charlie, launch, part):
    container = launch(alice, "thesis")
    url = reverse(f"container-{part}", args=[container.pk])
    for stranger in (bob, charlie):
        client.force_login(stranger)
        assert client.get(url).status_code == 404
    client.force_login(alice)
    assert client.get(url).status_code == 200
    assert client.get(reverse(f"container-{part}", args=[uuid.uuid4()])).status_code == 404


@pytest.mark.parametrize(
    "verb", ["start", "stop", "restart", "pause", "resume", "remove", "cancel"]
)
def test_strangers_verbs_change_nothing(client, portal, alice, bob, launch, verb):
    container = launch(alice, "thesis")
    client.force_login(bob)

    assert client.post(verb_url(container, verb)).status_code == 404
    assert client.post(verb_url(container, verb), headers=HTMX).status_code == 404
    container.refresh_from_db()
    assert container.state == State.RUNNING
    assert Operation.objects.exclude(kind="launch").count() == 0


def test_an_admin_sees_and_stops_somebody_elses(
    client, portal, alice, admin_person, launch, run_due
):
    container = launch(alice, "thesis")
    client.force_login(admin_person)

    assert "thesis" not in client.get("/").text  # the front page is one's own
    assert "owned by alice" in client.get(container.get_absolute_url()).text
    assert client.post(verb_url(container, "stop")).status_code == 302
    run_due()
    container.refresh_from_db()
    assert container.stop_reason == "It was stopped by ada."


def test_people_who_are_not_signed_in_are_sent_to_the_sign_in(client, portal, alice, launch):
    container = launch(alice, "thesis")

    for url in ("/", "/launch/", "/machine/", "/limits/", container.get_absolute_url()):
        answer = client.get(url)
        assert answer.status_code == 302
        assert answer.url.startswith("/account/login/")
    assert client.post(verb_url(container, "stop")).status_code == 302
    fragment = client.get(reverse("container-card", args=[container.pk]), headers=HTMX)
    assert fragment.headers["HX-Redirect"] == "/account/login/"
    container.refresh_from_db()
    assert container.state == State.RUNNING


# One container's page ----------------------------------------------------------------------------


def test_the_overview_tells_its_story(client, portal, alice, launch, run_due):
    container = launch(alice, "thesis", devices=1)
    client.force_login(alice)
    client.post(verb_url(container, "stop"))
    run_due()

    page = client.get(container.get_absolute_url()).text

    for words in (
        "You asked for the container.",
        "GPUs were reserved for it.",
        "It was launched and runs.",
        "You asked to stop it.",
        "It was stopped by its owner.",
        "Its GPUs are simulated",
    ):
        assert words in page


def test_the_terminal_page_lets_its_styles_in_and_no_other_page_does(client, portal, alice, launch):
    container = launch(alice, "thesis")
    client.force_login(alice)

    page = client.get(reverse("container-terminal", args=[container.pk]))
    assert f'data-ws-url="/ws/containers/{container.pk}/terminal"' in page.text
    assert "'nonce-" in page.headers["Content-Security-Policy"]
    overview = client.get(container.get_absolute_url())
    assert "'nonce-" not in overview.headers["Content-Security-Policy"]


def test_a_stopped_container_has_no_terminal(client, portal, alice, launch, run_due):
    container = launch(alice, "thesis")
    client.force_login(alice)
    client.post(verb_url(container, "stop"))
    run_due()

    page = client.get(reverse("container-terminal", args=[container.pk])).text
    assert "data-terminals" not in page
    assert "It does not run." in page


def test_connect_shows_commands_for_the_owner(client, portal, alice, launch, settings):
    settings.DS01_SSH_HOST = "gpu.example.org"
    container = launch(alice, "thesis")
    client.force_login(alice)

    page = client.get(reverse("container-connect", args=[container.pk])).text
    assert "ssh alice@gpu.example.org" in page
    assert "mlc open thesis" in page
    assert "ssh -t alice@gpu.example.org mlc open thesis" in page
    assert container.engine_name in page


def test_settings_refuse_a_rename_with_the_reason(client, portal, alice, launch):
    container = launch(alice, "thesis")
    client.force_login(alice)

    page = client.get(reverse("container-settings", args=[container.pk])).text
    assert "A container cannot be renamed or resized" in page
    assert "/workspace stays with everything in it." in page


def test_a_removed_container_keeps_its_history(client, portal, alice, launch, run_due):
    container = launch(alice, "thesis")
    client.force_login(alice)
    client.post(verb_url(container, "remove"))
    run_due()

    for part in TABS:
        page = client.get(reverse(f"container-{part}", args=[container.pk]))
        assert page.status_code == 200
        assert "Removed" in page.text


def test_every_page_escapes_what_people_wrote(client, portal, admin_person):
    row = many(admin_person, 1, state=State.STOPPED, stop_reason="<script>alert(1)</script>")[0]
    client.force_login(admin_person)

    for url in ("/", row.get_absolute_url(), reverse("container-logs", args=[row.pk])):
        page = client.get(url, {"q": "<script>alert(2)</script>"}).text
        assert "<script>alert" not in page


def test_no_page_has_anything_inline(client, portal, alice, launch):
    container = launch(alice, "thesis", devices=1)
    client.force_login(alice)
    urls = ["/", "/launch/", "/machine/", "/limits/"]
    urls += [reverse(f"container-{part}", args=[container.pk]) for part in TABS]
    for url in urls:
        page = client.get(url).text
        assert " style=" not in page, url
        assert "<style" not in page, url
        assert " onclick=" not in page, url
        assert "<script>" not in page, url


def test_parts_of_a_page_inherit_nothing_from_what_is_around_them(client, portal, alice, launch):
    """A card inside a live region must not take over that region's hx-select."""
    launch(alice, "thesis")
    client.force_login(alice)

    page = client.get("/").text

    assert '"disableInheritance": true' in page
    assert 'hx-select="#home-list"' in page
