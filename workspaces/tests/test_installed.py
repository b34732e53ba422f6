"""What did I install, and what becomes of it: a recipe, or where allowed a copy."""

from __future__ import annotations

import json

import pytest
from django.core.management import CommandError, call_command
from django.urls import reverse

from catalog.models import Build, BuildPolicy, Image, ImagePackages, Recipe
from catalog.services import package_facts
from catalog.services.build_layers import LAYER_LABEL
from catalog.tests.versions import make_recipe, make_version
from ds01portal.engine.base import Observed
from ds01portal.exceptions import (
    Busy,
    EngineError,
    EngineTimeout,
    EngineUnreachable,
    IllegalTransition,
    InvalidInput,
    PolicyRefused,
    QuotaExceeded,
)
from ds01portal.models import Event, Operation
from ds01portal.services.operations import Work, claim_operation
from ds01portal.services.quotas import set_limits
from workspaces.models import Container
from workspaces.services import carrying
from workspaces.services.installed import find_installed, merge_requirements, offer_addition
from workspaces.services.snapshot_making import abandon_snapshot, carry_out_snapshot
from workspaces.services.snapshots import FIND_SECRETS, find_secrets, snapshot_container

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true", "HX-Target": "installed"}


def listing(pip: dict[str, list], apt: dict[str, str], manual: tuple[str, ...] = ()) -> bytes:
    lines = [f"DS01-PIP {json.dumps(pip)}"]
    lines += [f"DS01-APT ii  {name} {version}" for name, version in apt.items()]
    lines += [f"DS01-MANUAL {name}" for name in manual]
    return "\n".join([*lines, "DS01-END", ""]).encode()


BEFORE = listing(
    {"numpy": ["1.26.0", True, False], "pip": ["24.0", True, False]}, {"bash": "5.2", "vim": "9"}
)
INSIDE = listing(
    {
        "numpy": ["2.1.0", True, False],
        "Torch": ["2.5.1+cu124", True, False],
        "sympy": ["1.13", False, False],
        "mine": ["0.1", True, True],
    },
    {"bash": "5.2", "git": "2.39"},
    ("git",),
)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.setattr(package_facts, "_given_up", set())
    monkeypatch.setitem(carrying.HANDLERS, "snapshot", carry_out_snapshot)


@pytest.fixture
def wishes(portal, alice):
    """What a launch of version 1 of Alice's thesis asks for."""
    recipe = make_recipe(alice)
    recipe.content = {"base": recipe.content["base"], "requirements": "numpy<2\n", "apt": ["curl"]}
    recipe.save()
    image = make_version(portal, recipe, 1)
    return {"image": image, "reference": image.reference, "framework": "Python", "version": "3"}


def insides(engine, output: bytes = INSIDE, code: int = 0) -> None:
    """Let the image and its containers say what they have."""
    engine.script_step(match="DS01-END", output=[BEFORE])

    def answer(_name, command):
        if FIND_SECRETS in command:
            return 0, b"/root/.netrc\n/etc/pip.conf\n"
        return (code, output) if "DS01-END" in command[-1] else None

    engine.on_command = answer


@pytest.fixture
def train(portal, alice, launch, wishes) -> Container:
    """Alice's running container of her own image."""
    insides(portal)
    container = launch(alice, "train", **wishes)
    assert container.state == "running", container.error
    return container


@pytest.fixture
def plain(portal, alice, launch) -> Container:
    """Alice's running container of an image that is nobody's."""
    insides(portal)
    return launch(alice, "Plain_One")


# What differs ------------------------------------------------------------------------------------


def test_what_was_added_changed_and_removed_is_told(train):
    found = find_installed(container=train)

    assert found.trouble == ""
    told = [(one.kind, one.manager, one.name, one.before, one.after) for one in found.changes]
    assert told == [
        ("added", "pip", "mine", "", "0.1"),
        ("changed", "pip", "numpy", "1.26.0", "2.1.0"),
        ("removed", "pip", "pip", "24.0", ""),
        ("added", "pip", "sympy", "", "1.13"),
        ("added", "pip", "torch", "", "2.5.1+cu124"),
        ("added", "apt", "git", "", "2.39"),
        ("removed", "apt", "vim", "9", ""),
    ]
    assert [one.name for one in found.changes if one.can_add and one.requested] == [
        "numpy",
        "torch",
        "git",
    ]
    assert ImagePackages.objects.get().pk == train.image_engine_id


def test_nothing_differs_where_nothing_was_installed(train, portal):
    insides(portal, BEFORE)

    assert find_installed(container=train).changes == ()


def test_a_container_that_does_not_run_cannot_be_asked(train):
    train.state = "stopped"

    assert find_installed(container=train).trouble == "stopped"


@pytest.mark.parametrize(
    ("error", "trouble"),
    [
        (EngineUnreachable("away"), "engine"),
        (EngineTimeout("late"), "engine"),
        (EngineError("odd"), "unreadable"),
    ],
)
def test_trouble_is_told_and_raises_nothing(train, portal, error, trouble):
    portal.fail_next("run_command", error)

    assert find_installed(container=train).trouble == trouble


def test_an_answer_that_makes_no_sense_is_not_believed(train, portal):
    insides(portal, b"nonsense", code=1)

    assert find_installed(container=train).trouble == "unreadable"


def test_a_container_that_is_gone_is_told(train, portal):
    portal.remove_container(train.engine_name, force=True)

    assert find_installed(container=train).trouble == "missing"


# Into a recipe -----------------------------------------------------------------------------------


def test_it_goes_into_the_recipe_of_the_image_at_the_versions_found(train, alice, wishes):
    found = find_installed(container=train)

    offer = offer_addition(
        container=train, person=alice, difference=found, pip=["torch", "numpy"], apt=["git"]
    )

    assert offer.recipe == wishes["image"].recipe
    assert offer.content["requirements"] == "numpy==2.1.0\ntorch==2.5.1\n"
    assert offer.content["apt"] == ["curl", "git"]
    assert offer.content["base"] == wishes["image"].recipe.content["base"]
    assert set(offer.added) == {"torch==2.5.1", "numpy==2.1.0", "git"}


def test_who_may_not_change_the_recipe_makes_one_on_top(train, bob, wishes):
    recipe = wishes["image"].recipe
    recipe.sharing = Recipe.Sharing.EVERYBODY
    recipe.save()
    train.owner = bob

    offer = offer_addition(
        container=train,
        person=bob,
        difference=find_installed(container=train),
        pip=["torch"],
        apt=[],
    )

    assert offer.recipe is None
    assert offer.name == "train"
    assert offer.content["base"] == {"kind": "custom", "image": "alice/thesis:1"}
    assert offer.content["requirements"] == "torch==2.5.1\n"


@pytest.mark.parametrize("kind", ["catalog", "local", "none"])
def test_a_new_recipe_stands_on_what_the_container_was_started_from(plain, alice, kind):
    if kind == "catalog":
        Image.objects.filter(pk=plain.image.pk).update(kind="catalog", architectures=";CUDA_ADA;")
        Container.objects.filter(pk=plain.pk).update(architecture="CUDA_ADA")
    if kind == "none":
        Container.objects.filter(pk=plain.pk).update(image=None)
    plain = Container.objects.get(pk=plain.pk)

    offer = offer_addition(
        container=plain,
        person=alice,
        difference=find_installed(container=plain),
        pip=[],
        apt=["git"],
    )

    assert offer.name == "plain_one"
    assert offer.content["base"] == (
        {"kind": "catalog", "framework": "Python", "version": "3", "architecture": "CUDA_ADA"}
        if kind == "catalog"
        else {"kind": "reference", "reference": "ds01/demo-python:1"}
    )


@pytest.mark.parametrize(
    ("pip", "apt"),
    [([], []), (["mine"], []), (["pip"], []), (["nowhere"], []), ([], ["vim"]), (["x;y"], [])],
)
def test_only_what_was_found_and_can_be_brought_goes_in(train, alice, pip, apt):
    with pytest.raises(InvalidInput):
        offer_addition(
            container=train,
            person=alice,
            difference=find_installed(container=train),
            pip=pip,
            apt=apt,
        )


@pytest.mark.parametrize(
    ("text", "pins", "expected"),
    [
        ("", {"a": "a==1"}, "a==1\n"),
        ("# mine\nA>=0 # why\nb\n", {"a": "a==1"}, "# mine\na==1\nb\n"),
        ("a>=0; python_version<'3'\na>=1; python_version>='3'\n", {"a": "a==1"}, "a==1\n"),
        ("a==0 \\\n  --hash=sha256:" + "0" * 64 + "\nb\n", {"a": "a==1"}, "a==1\nb\n"),
        ("b", {"a": "a==1", "c": "c==2"}, "b\na==1\nc==2\n"),
        ("b\n\n# end\n", {}, "b\n\n# end\n"),
    ],
)
def test_other_lines_of_the_requirements_stay_as_they_were_written(text, pins, expected):
    assert merge_requirements(text, pins) == expected


# The page ----------------------------------------------------------------------------------------


def test_the_settings_offer_a_look_and_the_look_shows_a_list(client, train, alice):
    client.force_login(alice)
    url = reverse("container-installed", args=[train.pk])

    assert url in client.get(reverse("container-settings", args=[train.pk])).text
    page = client.get(url)

    assert page.status_code == 200
    assert "Add to the recipe" in page.text
    assert 'value="torch" checked' in page.text
    assert 'value="sympy">' in page.text
    assert 'value="mine"' not in page.text
    part = client.get(url, headers=HTMX).text
    assert part.strip().startswith('<div id="installed">')
    assert "<html" not in part
    head = client.get(url, headers={"HX-Request": "true", "HX-Target": "c-head"}).text
    assert 'id="c-head"' in head


def test_an_addition_changes_the_recipe_and_leads_to_it(client, train, alice, wishes, portal):
    client.force_login(alice)
    url = reverse("container-installed-add", args=[train.pk])

    refused = client.post(url, {"pip": ["nowhere"]}, headers=HTMX)
    assert refused.status_code == 422
    assert "is not among what was installed" in refused.text
    answer = client.post(url, {"pip": ["torch"], "apt": ["git"]}, headers=HTMX)

    recipe = wishes["image"].recipe
    assert answer.headers["HX-Redirect"] == recipe.get_absolute_url()
    recipe.refresh_from_db()
    assert "torch==2.5.1" in recipe.content["requirements"]
    assert recipe.content["apt"] == ["curl", "git"]
    assert client.get(url).status_code == 405


def test_a_new_recipe_is_made_of_it(client, plain, alice):
    client.force_login(alice)
    assert (
        "Make a recipe from it" in client.get(reverse("container-installed", args=[plain.pk])).text
    )

    answer = client.post(
        reverse("container-installed-add", args=[plain.pk]), {"pip": ["torch"], "name": "mine"}
    )

    recipe = Recipe.objects.get(owner=alice, name="mine")
    assert answer.headers["Location"] == recipe.get_absolute_url()
    assert recipe.content["requirements"] == "torch==2.5.1\n"


def test_strangers_see_and_change_nothing(client, train, bob, charlie):
    BuildPolicy.objects.update_or_create(pk=1, defaults={"snapshots": True})
    for stranger in (bob, charlie):
        client.force_login(stranger)
        assert client.get(reverse("container-installed", args=[train.pk])).status_code == 404
        for name in ("container-installed-add", "container-snapshot"):
            answer = client.post(reverse(name, args=[train.pk]), {"pip": "torch", "image": "x"})
            assert answer.status_code == 404
    client.logout()
    assert client.get(reverse("container-installed", args=[train.pk])).status_code == 302


def test_show_installed_prints_and_refuses(train, capsys, alice):
    call_command("show_installed", "alice", "train", "--json")
    said = json.loads(capsys.readouterr().out)
    assert [one["name"] for one in said["changes"] if one["kind"] == "added"] == [
        "mine",
        "sympy",
        "torch",
        "git",
    ]
    call_command("show_installed", "alice", "train")
    assert "came with another" in capsys.readouterr().out

    Container.objects.filter(pk=train.pk).update(state="stopped")
    with pytest.raises(CommandError) as error:
        call_command("show_installed", "alice", "train")
    assert error.value.returncode == 1


def test_show_installed_tells_engine_trouble_with_exit_code_2(train, portal):
    portal.go_down()

    with pytest.raises(CommandError) as error:
        call_command("show_installed", "alice", "train")

    assert error.value.returncode == 2


# Snapshots ---------------------------------------------------------------------------------------


@pytest.fixture
def allowed(db) -> BuildPolicy:
    return BuildPolicy.objects.update_or_create(pk=1, defaults={"snapshots": True})[0]


def test_nobody_keeps_a_container_unless_an_admin_allows_it(client, train, alice):
    with pytest.raises(PolicyRefused):
        snapshot_container(container=train, name="copy", actor=alice)
    client.force_login(alice)

    page = client.get(reverse("container-installed", args=[train.pk])).text
    answer = client.post(reverse("container-snapshot", args=[train.pk]), {"image": "copy"})

    assert "Keep it as an image" not in page
    assert answer.status_code == 422
    assert not Operation.objects.filter(kind="snapshot").exists()
    assert not Recipe.objects.filter(name="copy").exists()


def test_a_container_is_kept_as_a_new_version(train, alice, allowed, run_due, portal):
    portal.find(train.engine_name).written = 4000

    snapshot_container(container=train, name="copy", actor=alice)
    run_due()

    recipe = Recipe.objects.get(owner=alice, name="copy")
    image = recipe.images.get()
    assert (image.number, image.kind, image.owner) == (1, "custom", alice)
    assert image.base_reference == "ds01-200001/thesis:1"
    assert image.layers == [{"id": image.engine_image_id, "bytes": 4000}]
    assert image.is_launchable
    details = portal.inspect_image("ds01-200001/copy:1")
    assert details.id == image.engine_image_id
    assert portal.inspect_image("ds01-200001/copy:latest").id == details.id
    assert details.environment["HOME"] == "/root"
    assert details.environment["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert details.user == "0:0"
    assert {key for key, value in details.labels.items() if value} == {LAYER_LABEL}
    assert recipe.builds.get().state == Build.State.DONE
    assert Operation.objects.get(kind="snapshot").state == "done"
    assert portal.inspect_container(train.engine_name).state is Observed.RUNNING
    told = Event.objects.get(verb="snapshot")
    assert told.after == {"image": "ds01-200001/copy:1"}
    assert "keys, tokens" in told.reason

    snapshot_container(container=train, name="copy", actor=alice)
    run_due()
    assert sorted(recipe.images.values_list("number", flat=True)) == [1, 2]


def test_one_launches_from_it(train, alice, allowed, run_due, launch):
    snapshot_container(container=train, name="copy", actor=alice)
    run_due()
    image = Image.objects.get(recipe__name="copy")

    again = launch(
        alice, "again", image=image, reference=image.reference, framework="Python", version="3"
    )

    assert again.state == "running", again.error


def test_what_looks_like_a_secret_is_named_and_never_shown(client, train, alice, allowed, portal):
    portal.find(train.engine_name).raw["Config"]["Env"].append("HF_TOKEN=hf_verysecret")

    found = find_secrets(container=train)

    assert found.files == ("/root/.netrc", "/etc/pip.conf")
    assert found.variables == ("HF_TOKEN",)
    client.force_login(alice)
    page = client.get(reverse("container-installed", args=[train.pk])).text
    assert "/root/.netrc" in page
    assert "HF_TOKEN" in page
    assert "hf_verysecret" not in page
    portal.go_down()
    assert find_secrets(container=train).names == ()


def test_two_at_once_and_during_a_build_are_refused(train, alice, allowed, wishes):
    snapshot_container(container=train, name="copy", actor=alice)

    with pytest.raises(Busy):
        snapshot_container(container=train, name="other", actor=alice)
    Operation.objects.filter(kind="snapshot").update(state="done")
    with pytest.raises(Busy, match="copy is busy"):
        snapshot_container(container=train, name="copy", actor=alice)
    assert Build.objects.count() == 1


def test_quota_state_and_name_are_looked_at_first(train, alice, allowed, portal):
    with pytest.raises(InvalidInput):
        snapshot_container(container=train, name="Not A Name", actor=alice)
    set_limits(subject=alice, values={"disk": 1000}, actor=None)
    with pytest.raises(QuotaExceeded):
        snapshot_container(container=train, name="thesis", actor=alice)
    train.state = "launching"
    with pytest.raises(IllegalTransition):
        snapshot_container(container=train, name="copy", actor=alice)
    train.state, train.origin = "running", "docker"
    with pytest.raises(PolicyRefused):
        snapshot_container(container=train, name="copy", actor=alice)
    assert not Operation.objects.filter(kind="snapshot").exists()


def test_one_that_is_too_large_leaves_nothing(train, alice, allowed, run_due, portal):
    allowed.disk_bytes = 10
    allowed.save()
    portal.find(train.engine_name).written = 4000
    before = set(portal.images)

    operation = snapshot_container(container=train, name="copy", actor=alice)
    run_due()

    operation.refresh_from_db()
    assert operation.state == "failed"
    assert "an image may add" in operation.error["message"]
    assert Recipe.objects.get(name="copy").builds.get().state == Build.State.FAILED
    assert set(portal.images) == before
    assert portal.inspect_container(train.engine_name).state is Observed.RUNNING


@pytest.mark.parametrize("method", ["commit_step", "tag_image", "written_bytes"])
def test_a_failure_leaves_nothing_and_the_container_goes_on(
    train, alice, allowed, run_due, portal, method
):
    before = set(portal.images)
    operation = snapshot_container(container=train, name="copy", actor=alice)
    portal.fail_next(method, EngineError("Docker said no."))

    run_due()

    operation.refresh_from_db()
    assert operation.state == "failed"
    assert set(portal.images) == before
    assert portal.inspect_container(train.engine_name).state is Observed.RUNNING
    assert not Image.objects.filter(recipe__name="copy").exists()


def test_a_cancel_is_heard_before_it_begins(train, alice, allowed, run_due, portal):
    before = set(portal.images)
    operation = snapshot_container(container=train, name="copy", actor=alice)
    Operation.objects.filter(pk=operation.pk).update(cancel_requested=True)

    run_due()

    operation.refresh_from_db()
    assert operation.state == "cancelled"
    assert Build.objects.get().state == Build.State.CANCELLED
    assert set(portal.images) == before


def test_a_second_attempt_takes_the_image_of_the_first(train, alice, allowed, run_due, portal):
    operation = snapshot_container(container=train, name="copy", actor=alice)
    portal.fail_next("tag_image", EngineUnreachable("away"))
    run_due()
    operation.refresh_from_db()
    assert operation.state == "queued"
    count = len(portal.images)

    Operation.objects.filter(pk=operation.pk).update(not_before=operation.created_at)
    run_due()

    operation.refresh_from_db()
    assert operation.state == "done"
    assert len(portal.images) == count
    assert Image.objects.filter(recipe__name="copy").count() == 1


def test_a_worker_that_was_killed_leaves_nobody_paused(train, alice, allowed, run_due, portal):
    for phase in ("commit", "undo"):
        operation = snapshot_container(container=train, name=f"after-{phase}", actor=alice)
        portal.pause_container(train.engine_name)
        error = EngineError("Docker said no.").as_dict() if phase == "undo" else {}
        Operation.objects.filter(pk=operation.pk).update(phase=phase, error=error)

        run_due()

        operation.refresh_from_db()
        assert operation.state == ("failed" if phase == "undo" else "done")
        assert portal.inspect_container(train.engine_name).state is Observed.RUNNING


def test_one_that_fails_again_and_again_is_undone(train, alice, allowed, portal):
    snapshot_container(container=train, name="copy", actor=alice)
    operation = claim_operation(worker="test")

    abandon_snapshot(Work(operation), EngineError("The portal made a mistake."))

    operation.refresh_from_db()
    assert operation.state == "failed"
    assert Build.objects.get().state == Build.State.FAILED


def test_the_page_asks_for_it(client, train, alice, allowed):
    client.force_login(alice)

    answer = client.post(
        reverse("container-snapshot", args=[train.pk]), {"image": "copy"}, headers=HTMX
    )

    assert answer.headers["HX-Redirect"] == train.get_absolute_url()
    assert Operation.objects.get(kind="snapshot").actor == alice


def test_snapshot_container_asks_warns_and_refuses(train, alice, allowed, capsys):
    call_command("snapshot_container", "alice", "train", "copy", "--json")

    said = capsys.readouterr()
    assert json.loads(said.out)["operation"]["kind"] == "snapshot"
    assert "keys, tokens" in said.err
    assert "/root/.netrc" in said.err
    allowed.snapshots = False
    allowed.save()
    with pytest.raises(CommandError) as error:
        call_command("snapshot_container", "alice", "train", "copy")
    assert error.value.returncode == 1


# On a real engine --------------------------------------------------------------------------------

INSTALL = (
    "d=$(python3 -c 'import site; print(site.getusersitepackages())') && "
    'mkdir -p "$d/ds01_extra-2.0.dist-info" && cd "$d/ds01_extra-2.0.dist-info" && '
    "printf 'Metadata-Version: 2.1\\nName: ds01_extra\\nVersion: 2.0\\n' > METADATA && "
    "touch REQUESTED && echo kept > /var/tmp/kept"
)


@pytest.mark.engine
def test_a_real_container_tells_what_it_has_and_is_kept(
    real_portal, alice, launch, allowed, run_due
):
    container = launch(alice, "train")
    assert container.state == "running", container.error
    assert find_installed(container=container).changes == ()
    code, said = real_portal.run_command(container.engine_name, ("sh", "-c", INSTALL))
    assert code == 0, said

    (change,) = find_installed(container=container).changes
    assert (change.kind, change.name, change.after, change.requested) == (
        "added",
        "ds01-extra",
        "2.0",
        True,
    )

    operation = snapshot_container(container=container, name="kept", actor=alice)
    run_due()
    operation.refresh_from_db()
    assert operation.state == "done", operation.error
    try:
        image = Image.objects.get(recipe__name="kept")
        again = launch(
            alice, "again", image=image, reference=image.reference, framework="Python", version="3"
        )
        assert again.state == "running", again.error
        code, said = real_portal.run_command(again.engine_name, ("cat", "/var/tmp/kept"))
        assert (code, said.strip()) == (0, b"kept")
        assert real_portal.inspect_container(container.engine_name).state is Observed.RUNNING
        history = real_portal.inspect_image(image.reference)
        assert history.environment["HOME"] == "/root"
        assert history.labels["aime.mlc.DS01_ID"] == ""
    finally:
        for name in ("train", "again"):
            real_portal.remove_container(f"{name}._.{alice.uid}", force=True)
        for tag in [tag for one in real_portal.list_images() for tag in one.tags]:
            if tag.startswith(f"ds01-{alice.uid}/kept:"):
                real_portal.remove_image(tag)
