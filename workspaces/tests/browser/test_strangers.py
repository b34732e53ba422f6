"""Other people's containers do not exist; verbs do not come by GET."""

from __future__ import annotations

import pytest

from workspaces.tests.browser import data
from workspaces.tests.browser.conftest import Visit
from workspaces.tests.browser.site import Site
from workspaces.tests.browser.watch import Watch

pytestmark = pytest.mark.browser
TABS = ("", "terminal/", "logs/", "logs/lines/", "logs/download/", "connect/", "settings/")
PARTS = ("card/", "progress/", "bars/", "usage/")
VERBS = ("start", "stop", "restart", "pause", "resume", "remove", "cancel")


def test_a_strangers_container_is_nowhere_and_cannot_be_touched(
    site: Site, visit: Visit, watch: Watch
) -> None:
    pk = site.call(data.ask_for, "lea", "private")
    site.await_state(pk, "running")
    context = visit("bob")
    page = context.new_page()
    page.goto("/")
    assert "private" not in page.content()
    token = page.locator("meta[name=csrf-token]").get_attribute("content") or ""

    seen = {
        f"GET {part}": context.request.get(f"/containers/{pk}/{part}").status
        for part in (*TABS, *PARTS)
    }
    seen |= {
        f"POST {verb}": context.request.post(
            f"/containers/{pk}/do/{verb}/",
            form={"csrfmiddlewaretoken": token},
            headers={"Referer": site.url},
        ).status
        for verb in VERBS
    }
    assert set(seen.values()) == {404}, seen
    gets = {verb: context.request.get(f"/containers/{pk}/do/{verb}/").status for verb in VERBS}
    assert set(gets.values()) == {405}, gets
    answer = page.goto(f"/containers/{pk}/")
    assert answer is not None and answer.status == 404
    assert "private" not in page.content()
    assert all("404" in line for line in watch.take())
    assert site.call(data.state_of, pk) == "running"
    site.call(data.ask_verb, pk, "remove")
