"""The page of a build: how far it is, what went wrong, its log; and for whom."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from catalog.build_progress import describe_progress
from catalog.log_html import MAX_RUNS, line_class, plain_text, render_line, render_lines
from catalog.models import Build, BuildOutput, BuildPolicy, Image, Recipe
from catalog.services.builds import request_build
from catalog.tests.recipe_players import make_recipe, make_version
from ds01portal.models import Operation, Person

pytestmark = [pytest.mark.django_db, pytest.mark.any_database]
State = Build.State


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


@pytest.fixture
def recipe(alice: Person) -> Recipe:
    """Alice's recipe."""
    return make_recipe(alice)


def make_build(recipe: Recipe, state: str, *step_states: str, **values: Any) -> Build:
    """Make a build as the worker leaves it."""
    steps = [
        {"title": f"Part {number}", "command": "x", "state": one, "seconds": 12.5 * number}
        for number, one in enumerate(step_states, 1)
    ]
    now = timezone.now()
    values.setdefault("started_at", None if state == State.QUEUED else now)
    values.setdefault("finished_at", None if state in Build.LIVE_STATES else now)
    return Build.objects.create(
        recipe=recipe, number=recipe.last_number + 1, state=state, steps=steps, **values
    )


def write(build: Build, text: str, step: int = 1) -> BuildOutput:
    """Write a piece of the log."""
    return BuildOutput.objects.create(
        build=build, step=step, at=timezone.now(), text=text, bytes=len(text)
    )


# ---- The page -----------------------------------------------------------------------------------


def test_a_running_build_shows_its_steps_and_follows_the_log(browser, recipe):
    build = make_build(recipe, State.RUNNING, "cached", "done", "running", "waiting")
    write(build, "Step 1 of 4")
    last = write(build, "Collecting einops", step=3)

    text = browser.get(build.get_absolute_url()).text

    assert "Step 3 of 4: Part 3" in text
    assert "from an earlier build" in text
    assert text.count("step-done") == 2
    assert text.count("step-now") == 1
    assert f'data-last-id="{last.pk}"' in text
    assert 'data-live-log="yes"' in text
    assert f'action="/builds/{build.pk}/cancel/"' in text
    assert "Collecting einops" in text


def test_a_waiting_build_tells_its_place_in_the_queue(browser, bob, recipe):
    BuildPolicy.objects.update(builds_in_all=1)
    first = request_build(recipe=make_recipe(bob, "first"), actor=bob)
    Operation.objects.filter(pk=first.operation_id).update(phase="step", state="running")
    request_build(recipe=make_recipe(bob, "second"), actor=bob)
    mine = request_build(recipe=recipe, actor=recipe.owner)

    text = browser.get(mine.get_absolute_url()).text

    assert "Number 2 in the queue." in text
    assert describe_progress(build=mine)["position"] == 2


def test_a_failed_build_explains_itself_and_leads_back_to_the_recipe(browser, recipe):
    error = {
        "code": "no-such-package",
        "family": "image",
        "message": "There is no package “einopps”.",
        "hint": "Look at the spelling.",
        "fields": {
            "step": 2,
            "title": "Your packages",
            "exit_code": 1,
            "tail": ["\x1b[31mERROR: No matching <distribution>\x1b[0m"],
        },
    }
    build = make_build(recipe, State.FAILED, "done", "failed", error=error)

    text = browser.get(build.get_absolute_url()).text

    assert "There is no package “einopps”." in text
    assert "It happened in step 2, Your packages. Exit code 1." in text
    assert "Look at the spelling." in text
    assert '<span class="sgr-31">ERROR: No matching &lt;distribution&gt;</span>' in text
    assert f'href="/images/mine/{recipe.pk}/edit/">Edit recipe' in text
    assert "data-live-log" not in text
    assert text.count("step-failed") == 1


def test_a_built_version_can_be_launched(browser, recipe, fake_engine):
    image = make_version(recipe, fake_engine)

    text = browser.get(image.build.get_absolute_url()).text

    assert f'/launch/?image={image.pk}">Launch</a>' in text
    assert "900 MB, 100 MB of them on top of its base" in text


def test_cancel_asks_the_worker_once_and_is_seen(browser, recipe, alice):
    build = request_build(recipe=recipe, actor=alice)

    answer = browser.post(f"/builds/{build.pk}/cancel/")
    text = browser.get(build.get_absolute_url()).text

    assert answer.url == build.get_absolute_url()
    assert Operation.objects.get(pk=build.operation_id).cancel_requested
    assert "It is being cancelled." in text
    assert 'id="cancel-build"' not in text
    assert browser.get(f"/builds/{build.pk}/cancel/").status_code == 405


def test_the_part_above_the_log_comes_alone(browser, recipe):
    build = make_build(recipe, State.RUNNING, "running")
    write(build, "a line of the log")

    text = browser.get(f"/builds/{build.pk}/head/", headers={"HX-Request": "true"}).text

    assert text.lstrip().startswith('<div id="build-head"')
    assert "a line of the log" not in text


def test_the_log_and_the_dockerfile_are_files(browser, recipe):
    build = make_build(recipe, State.DONE, "done", dockerfile="FROM x\n")
    write(build, "\x1b[32mgreen\x1b[0m\nsecond")
    write(build, "third")

    log = browser.get(f"/builds/{build.pk}/log.txt")
    dockerfile = browser.get(f"/builds/{build.pk}/Dockerfile")

    assert log.text == "green\nsecond\nthird\n"
    assert log["Content-Type"].startswith("text/plain")
    assert log["Content-Disposition"] == 'attachment; filename="thesis-1.log"'
    assert dockerfile.text == "FROM x\n"


def test_what_was_left_out_of_a_long_log_is_said(browser, recipe):
    build = make_build(recipe, State.DONE, "done", dropped_bytes=3 * 1024**2)

    text = browser.get(build.get_absolute_url()).text

    assert "The log was long: 3 MB of its middle were left out." in text


# ---- Who sees what ------------------------------------------------------------------------------


def test_only_the_owner_and_admins_see_a_build(recipe, bob, charlie, admin_person):
    Recipe.objects.filter(pk=recipe.pk).update(sharing="everybody")
    build = make_build(recipe, State.RUNNING, "running")
    write(build, "hf_secret")
    paths = [f"/builds/{build.pk}/{part}" for part in ("", "head/", "log.txt", "Dockerfile")]

    for person in (bob, charlie):
        stranger = browser_of(person)
        assert {stranger.get(path).status_code for path in paths} == {404}
        assert stranger.get(f"/builds/{build.pk}/output/").status_code == 404
        assert stranger.post(f"/builds/{build.pk}/cancel/").status_code == 404
        page = stranger.get(recipe.get_absolute_url()).text
        assert str(build.pk) not in page
    assert {browser_of(admin_person).get(path).status_code for path in paths} == {200}
    assert {Client().get(path).status_code for path in paths} == {302}


def test_an_unknown_build_is_no_page(browser):
    assert browser.get("/builds/00000000-0000-4000-8000-000000000000/").status_code == 404


# ---- Hostile logs -------------------------------------------------------------------------------


def test_a_log_cannot_write_into_the_page(browser, recipe):
    build = make_build(recipe, State.RUNNING, "running")
    write(build, "<script>alert(1)</script>\n</pre><img src=x onerror=alert(2)>\n\x1b[31m<b>red")

    text = browser.get(build.get_absolute_url()).text

    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert '<span class="sgr-31">&lt;b&gt;red</span>' in text


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("\x1b[1;32mbold green\x1b[0m plain", '<span class="sgr-b sgr-32">bold green</span> plain'),
        ("\x1b[38;5;196mindexed\x1b[38;2;1;2;3mtrue", "indexedtrue"),
        ("\x1b[31ma\x1b[39mb", '<span class="sgr-31">a</span>b'),
        ('\x1b[31"><script>mx', "31&quot;&gt;&lt;script&gt;mx"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b[2J\x1b[Hclean", "clean"),
        (" 10%\r 50%\r100% done\r", "100% done"),
        ("rtl\u202egnp", "rtlgnp"),
        ("bell\x07 nul\x00 del\x7f", "bell nul del"),
        ("\x1b[" + "1;" * 5000 + "mx", "x"),
        ("\x1b[999999999999mx", "x"),
        ("lone \x1b", "lone "),
    ],
)
def test_a_line_obeys_nothing_but_colours(line, shown):
    assert render_line(line) == shown


def test_a_line_of_a_million_colours_stays_small():
    bomb = "".join(f"\x1b[{31 + number % 6}mx" for number in range(100_000))

    html = render_line(bomb)

    assert html.count("<span") <= MAX_RUNS + 1
    assert len(html) < 60_000


def test_colours_end_with_the_line_and_lines_stay_apart():
    html = render_lines("\x1b[31mred\nplain\n")

    assert html == (
        '<span class="ln"><span class="sgr-31">red</span>\n</span>'
        '<span class="ln">plain\n</span><span class="ln">\n</span>'
    )
    assert plain_text("\x1b[31mred\x1b[0m\nplain") == "red\nplain"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("ERROR: No matching distribution found for nothing", "ln ln-error"),
        ("E: Unable to locate package nothing", "ln ln-error"),
        ("  error: subprocess-exited-with-error", "ln ln-error"),
        ("  fatal error: Python.h: No such file", "ln ln-error"),
        ("WARNING: Retrying after connection broken", "ln ln-warning"),
        ("W: Some index files failed to download", "ln ln-warning"),
        ("Error handling is fun", "ln"),
        ("Collecting errors: 3", "ln"),
    ],
)
def test_errors_and_warnings_are_told_apart(line, shown):
    assert line_class(line) == shown
