"""Networks: one of each person's own, from the configured range, gone when unused."""

from __future__ import annotations

import pytest

from ds01portal.exceptions import EngineError
from workspaces.models import Container
from workspaces.services import carrying, containers, networks

pytestmark = pytest.mark.django_db

LABEL = networks.LABEL


def test_each_person_has_one_network_however_many_containers(portal, alice, bob, launch):
    for owner, name in ((alice, "a"), (alice, "b"), (bob, "c")):
        launch(owner, name)
    assert portal.list_networks(label=LABEL) == {
        f"ds01-{alice.uid}": ("10.213.0.0/27",),
        f"ds01-{bob.uid}": ("10.213.0.32/27",),
    }


def test_a_subnet_that_was_given_back_is_used_again(portal, alice, bob, charlie, launch):
    container = launch(alice, "a")
    launch(bob, "b")
    containers.remove_container(container=container, actor=alice)
    carrying.carry_out_due()
    launch(charlie, "c")
    assert portal.list_networks(label=LABEL)[f"ds01-{charlie.uid}"] == ("10.213.0.0/27",)


def test_a_range_that_is_used_up_ends_the_launch_with_a_reason(
    portal, alice, bob, launch, settings
):
    settings.DS01_NETWORK_RANGE, settings.DS01_NETWORK_PREFIX = "10.9.0.0/28", 28
    assert launch(alice).state == "running"
    refused = launch(bob)
    assert refused.state == "failed"
    assert "address range" in refused.error["message"]


def test_what_the_engine_says_is_taken_is_passed_over(portal, alice, launch, settings):
    portal.ensure_network("somebody", subnets=iter(["10.213.0.0/24"]), labels={})
    launch(alice)
    assert portal.list_networks(label=LABEL)[f"ds01-{alice.uid}"] == ("10.213.1.0/27",)


def test_a_stopped_container_keeps_the_network(portal, alice, launch):
    container = launch(alice)
    containers.stop_container(container=container, actor=alice)
    carrying.carry_out_due()
    networks.remove_network_if_unused(container=container, engine=portal)
    assert portal.list_networks(label=LABEL)


def test_a_network_that_is_gone_is_made_again_at_the_start(portal, alice, launch):
    container = launch(alice)
    containers.stop_container(container=container, actor=alice)
    carrying.carry_out_due()
    portal.networks.clear()
    containers.start_container(container=container, actor=alice)
    carrying.carry_out_due()
    container.refresh_from_db()
    assert container.state == "running"


def test_a_removal_does_not_take_the_network_from_a_launch_under_way(portal, alice, ask, launch):
    """The launch has found the network, and its container is not on it yet."""
    old = launch(alice, "old")
    new = ask(alice, "new")
    tag = portal.tag_image

    def remove_the_old_one(reference, target):
        portal.tag_image = tag
        portal.remove_container(old.engine_name, force=True)
        networks.remove_network_if_unused(container=old, engine=portal)
        tag(reference, target)

    portal.tag_image = remove_the_old_one
    carrying.carry_out_due()

    new.refresh_from_db()
    assert new.state == "running"


def test_two_launches_that_fail_leave_no_network(portal, alice, ask):
    first, second = ask(alice, "a"), ask(alice, "b")
    portal.fail_next("create_container", EngineError("No."), times=2)
    carrying.carry_out_due()
    assert Container.objects.filter(state="failed").count() == 2
    assert portal.list_networks(label=LABEL) == {}
    assert {first.owner, second.owner} == {alice}


def test_nobodys_container_has_no_network(portal):
    stray = Container.objects.create(name="x", engine_name="x", image_reference="x:1")
    networks.remove_network_if_unused(container=stray, engine=portal)
    assert "remove_network_if_unused" not in portal.calls


def test_a_network_that_two_failing_launches_left_to_each_other_is_swept(portal, alice, launch):
    portal.ensure_network(
        "ds01-987654", subnets=iter(["10.213.99.0/27"]), labels={networks.LABEL: "true"}
    )
    launch(alice, "stays")

    assert networks.sweep_networks() == 1

    assert set(portal.list_networks(label=networks.LABEL)) == {f"ds01-{alice.uid}"}
