"""The main job, from the sign-in to the removal, as a student does it."""

from __future__ import annotations

from pathlib import Path

import pytest

from workspaces.tests.browser import data
from workspaces.tests.browser.conftest import Visit
from workspaces.tests.browser.site import Site
from workspaces.tests.browser.story import Story
from workspaces.tests.browser.watch import Watch

pytestmark = pytest.mark.browser


def test_a_student_launches_uses_stops_starts_and_removes_a_container(
    site: Site, visit: Visit, watch: Watch, artifacts: Path
) -> None:
    page = visit().new_page()
    told: list[str] = []
    story = Story(
        page,
        f"{site.url}/",
        "thesis-bert",
        told.append,
        site.paused_worker,
        lambda name: page.screenshot(path=artifacts / f"story-{name}.png", full_page=True) and None,
    )

    story.play("mia", data.PASSWORD)

    assert (story.uid, story.login) == site.call(data.identity_of, "mia")
    # Several steps were seen on one and the same page, the last of them the state.
    assert len(story.progress) >= 3, story.progress
    assert len(told) == 7, told
    assert not any("not on this machine" in line for line in told), told
    assert watch.take() == []
