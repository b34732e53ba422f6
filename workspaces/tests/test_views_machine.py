"""Machine, limits, figures and logs: honest when something is unknown, discreet about others."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from ds01portal.engine.base import UsageSample
from ds01portal.exceptions import EngineUnreachable
from ds01portal.limits import UNLIMITED
from ds01portal.models import Person, Quota
from ds01portal.services.quotas import set_limits
from workspaces.models import Container, Device, ForeignUse
from workspaces.services.logs import clean_text
from workspaces.services.machine import note_unreachable
from workspaces.services.usage import cpu_rate
from workspaces.views.bars import duration_words
from workspaces.views.tiles import model_words

pytestmark = pytest.mark.django_db
State = Container.State


@pytest.fixture
def browser(client: Client, portal: Any, alice: Person) -> Client:
    """Alice's browser on a portal that is ready."""
    client.force_login(alice)
    return client


# Machine -----------------------------------------------------------------------------------------


def test_the_machine_page_says_first_how_many_are_free(browser, alice, bob, launch):
    launch(alice, "mine", devices=1)
    launch(bob, "his-secret", devices=1)
    Device.objects.filter(index=3).update(drained=True, drain_reason="Fan is broken")

    page = browser.get("/machine/").text

    assert "3 of 6 GPUs are free · 1 is yours · 1 is out of service" in page
    assert "Fan is broken" in page
    assert "in slices" in page
    assert "MIG 4.0" in page
    assert "his-secret" not in page
    assert "bob" not in page


def test_admins_see_who_holds_what(client, portal, alice, admin_person, launch):
    launch(alice, "thesis", devices=1)
    client.force_login(admin_person)

    assert "alice · thesis" in client.get("/machine/").text


def test_a_device_used_from_outside_is_taken(browser, admin_person, client):
    ForeignUse.objects.create(
        device=Device.objects.get(index=0), engine_id="x", engine_name="somebodys-jupyter"
    )

    page = browser.get("/machine/").text
    assert "5 of 6 GPUs are free" in page
    assert "somebodys-jupyter" not in page
    client.force_login(admin_person)
    assert "somebodys-jupyter" in client.get("/machine/").text


def test_a_device_that_vanished_is_out_of_service(browser):
    Device.objects.filter(index=0).update(present=False)

    page = browser.get("/machine/").text
    assert "The machine does not show it any more." in page
    assert "5 of 6 GPUs are free · 1 is out of service" in page


def test_an_engine_that_is_away_is_said_with_its_time(browser):
    note_unreachable(error=EngineUnreachable("Docker Engine does not answer."))

    page = browser.get("/machine/").text
    assert "does not answer for" in page
    assert "No container was changed." in page
    assert "The container engine does not answer" in page


def test_a_machine_without_gpus_says_so(client, fake_engine, alice):
    client.force_login(alice)

    assert "This machine offers no GPUs" in client.get("/machine/").text
    assert client.get("/").status_code == 200
    assert "This machine offers no GPUs." in client.get("/launch/").text


def test_the_machine_page_asks_the_same_queries_for_1_and_6_held(
    browser, alice, bob, charlie, launch
):
    launch(alice, "a", devices=1)
    browser.get("/machine/")
    with CaptureQueriesContext(connection) as one:
        browser.get("/machine/")
    launch(bob, "b", devices=2)
    launch(charlie, "c", devices=3)
    with CaptureQueriesContext(connection) as all_held:
        page = browser.get("/machine/")
    assert "Every GPU is taken" in page.text
    assert len(all_held) == len(one)


# Limits ------------------------------------------------------------------------------------------


def test_limits_show_use_and_where_each_comes_from(browser, alice, launch, settings):
    settings.DS01_CONTACT = "help@example.org"
    set_limits(subject=alice, values={"memory": 64 * 1024**3, "disk": 0}, actor=None)
    launch(alice, "thesis", devices=1)

    page = browser.get("/limits/").text

    assert "GPUs 1 of 2 · containers 1 of 3" in page
    assert "From your group student" in page
    assert "The same for everybody" in page
    assert "Set for you" in page
    assert "64 GB" in page
    assert "24 h" in page
    assert "30 min" in page
    assert 'href="mailto:help@example.org"' in page


def test_unlimited_zero_and_unset_say_what_they_mean(client, portal, admin_person, alice):
    set_limits(subject=alice, values={"containers": UNLIMITED, "gpueq": 0}, actor=None)
    client.force_login(alice)

    bars = {bar.name: bar for bar in client.get("/limits/").context["counted"]}

    assert (bars["containers"].text, bars["containers"].fraction) == ("0, unlimited", None)
    assert (bars["gpueq"].text, bars["gpueq"].fraction) == ("0 of 0", 1.0)
    assert bars["gpueq"].level == "full"


def test_a_limit_that_nobody_set_allows_nothing_and_says_so(client, portal, alice):
    Quota.objects.all().delete()
    client.force_login(alice)

    page = client.get("/limits/").text
    assert "none allowed: no limit is set" in page
    assert "Nobody has set it" in page
    assert client.get("/").status_code == 200
    assert client.get("/launch/").status_code == 200


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(86_400, "24 h"), (1800, "30 min"), (5400, "1 h 30 min"), (604_800, "7 d"), (45, "45 s")],
)
def test_durations_are_in_peoples_words(seconds, words):
    assert duration_words(seconds) == words


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("A100-40GB", "A100 40 GB"),
        ("NVIDIA A100-SXM4-80GB", "A100 SXM4 80 GB"),
        ("NVIDIA H100 PCIe", "H100 PCIe 80 GB"),
        ("Tesla T4", "T4 80 GB"),
    ],
)
def test_models_are_named_without_their_makers_prefixes(model, words):
    assert model_words(Device(model=model, memory_bytes=80 * 1024**3)) == words


# Figures -----------------------------------------------------------------------------------------


def test_two_readings_make_a_rate(browser, portal, alice, launch):
    container = launch(alice, "thesis", devices=1, cpus=4, memory=8 * 1024**3)
    now = dt.datetime.now(dt.UTC)
    portal.clock = lambda: now
    portal.set_load(container.engine_name, cpu_cores=2.0, memory_bytes=2 * 1024**3)
    url = reverse("container-usage", args=[container.pk])

    first = browser.get(url).json()
    assert first["append"] is True
    cpu, memory, gpu = first["charts"]
    assert (cpu["values"], cpu["text"]) == ([None], "measuring")
    assert (memory["values"], memory["text"]) == ([2.0], "2 GB of 8 GB")
    assert (gpu["values"], gpu["text"]) == ([None], "simulated, no figures")

    later = now + dt.timedelta(seconds=5)
    portal.clock = lambda: later
    second = browser.get(url + first["next"]).json()
    assert second["charts"][0]["values"] == [pytest.approx(2.0, abs=0.01)]
    assert second["charts"][0]["text"] == "2.0 of 4 cores"
    bars = browser.get(reverse("container-bars", args=[container.pk]) + first["next"])
    assert "2.0 of 4 cores" in bars.text


@pytest.mark.parametrize("token", ["nonsense", "1-2-3", "inf-5", "nan-1", "-", "9" * 5000, "1e9-x"])
def test_a_made_up_token_is_no_reading(browser, alice, launch, token):
    container = launch(alice, "thesis")

    answer = browser.get(reverse("container-usage", args=[container.pk]), {"since": token})

    assert answer.status_code == 200
    assert answer.json()["charts"][0]["values"] == [None]


def test_an_engine_in_trouble_answers_unknown_and_never_500(browser, portal, alice, launch):
    container = launch(alice, "thesis")
    portal.go_down()

    answer = browser.get(reverse("container-usage", args=[container.pk]))
    assert answer.status_code == 200
    assert answer.json()["trouble"] == "engine"
    assert [chart["values"] for chart in answer.json()["charts"]] == [[None], [None]]
    assert [chart["text"] for chart in answer.json()["charts"]] == ["unknown", "unknown"]
    bars = browser.get(reverse("container-bars", args=[container.pk]))
    assert "nothing is known of its use now" in bars.text
    lines = browser.get(reverse("container-log-lines", args=[container.pk]))
    assert "The engine does not answer" in lines.text
    for part in ("detail", "terminal", "logs", "connect", "settings"):
        assert browser.get(reverse(f"container-{part}", args=[container.pk])).status_code == 200


def test_a_container_that_does_not_run_has_no_figures(browser, alice, ask):
    container = ask(alice, "thesis")

    answer = browser.get(reverse("container-usage", args=[container.pk])).json()
    assert (answer["charts"], answer["trouble"]) == ([], "not-running")
    assert browser.get(reverse("container-bars", args=[container.pk])).text.strip() == ""


@pytest.mark.parametrize(
    ("before", "spent", "rate"),
    [
        (None, 5_000_000_000, None),
        ((90.0, 0), 5_000_000_000, 0.5),
        ((90.0, 9_000_000_000), 5_000_000_000, None),  # started anew in between
        ((100.0, 0), 5_000_000_000, None),  # no time has passed
        ((-900.0, 0), 5_000_000_000, None),  # too long ago
        ((90.0, 0), None, None),
    ],
)
def test_rates_only_from_readings_that_belong_together(before, spent, rate):
    sample = UsageSample(
        read_at=dt.datetime.fromtimestamp(100, dt.UTC),
        cpu_nanoseconds=spent,
        memory_bytes=None,
        memory_limit_bytes=None,
        network_received_bytes=None,
        network_sent_bytes=None,
        pids=None,
    )
    assert cpu_rate(before, sample) == rate


# Logs --------------------------------------------------------------------------------------------


def test_the_log_is_read_searched_and_downloaded(browser, portal, alice, launch):
    container = launch(alice, "thesis")
    portal.write_log(
        container.engine_name,
        b"\x1b[32mepoch 1\x1b[0m loss 0.5\r\nepoch 2 loss 0.4\r\n<b>done</b>\r\n",
    )
    logs = reverse("container-logs", args=[container.pk])

    page = browser.get(logs).text
    assert "epoch 1 loss 0.5" in page
    assert "&lt;b&gt;done&lt;/b&gt;" in page
    assert "every 3s" in page
    found = browser.get(logs, {"q": "EPOCH 2"}).text
    assert "epoch 1" not in found
    assert "1 of 3 lines has these words." in found
    assert "No line has these words." in browser.get(logs, {"q": "absent"}).text
    assert "every 3s" not in browser.get(logs, {"follow": "0"}).text

    file = browser.get(reverse("container-log-download", args=[container.pk]))
    assert file.headers["Content-Disposition"] == 'attachment; filename="thesis.log"'
    assert file.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert file.text.startswith("epoch 1 loss 0.5\n")


def test_a_container_gone_from_the_engine_has_no_log(browser, portal, alice, launch):
    container = launch(alice, "thesis")
    portal.remove_container(container.engine_name, force=True)

    page = browser.get(reverse("container-logs", args=[container.pk]))

    assert page.status_code == 200
    assert "the container is not on the engine" in page.text


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\x1b]0;title\x07prompt$ ", "prompt$ "),
        (b" 10%\r 50%\r100%\n", "100%\n"),
        (b"caf\xc3\xa9 \xff", "café �"),
        (b"a\x00b\x08c", "abc"),
        (b"tab\there", "tab\there"),
    ],
)
def test_terminal_noise_is_taken_out_of_logs(raw, text):
    assert clean_text(raw) == text
