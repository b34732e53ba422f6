"""Custom images from use to end: what is used stays, the base stays, and the history tells why."""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections import namedtuple

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from catalog import uses
from catalog.models import Build, BuildPolicy, HostFacts, Image, Recipe
from catalog.services import image_quota, image_sweep
from catalog.services.image_care import (
    delete_image,
    delete_version,
    describe_deletion,
    prune_versions,
    use_image,
)
from catalog.services.image_prune import prune_images
from catalog.services.image_quota import (
    bytes_freed,
    check_free_disk,
    check_image_quota,
    disk_alarm,
    image_bytes,
    read_image_quota,
)
from catalog.services.image_sweep import sweep_images
from catalog.tests.versions import BASE, make_layer, make_recipe, make_version
from ds01portal.engine.base import ContainerEngine, StepSpec
from ds01portal.engine.fake import FakeEngine
from ds01portal.exceptions import (
    Busy,
    EngineUnreachable,
    ImageInUse,
    ImageRefused,
    NotFound,
    QuotaExceeded,
    RefusedError,
)
from ds01portal.models import Event, Person
from ds01portal.services.operations import request_operation
from ds01portal.services.quotas import set_limits

pytestmark = pytest.mark.django_db
DAY = dt.timedelta(days=1)
GIB = 1024**3
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def users(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[str]]:
    """What stands on images, as the app of containers would answer."""
    names: dict[int, list[str]] = {}
    monkeypatch.setattr(uses, "_by_row", [lambda pks: {pk: names[pk] for pk in pks if pk in names}])
    monkeypatch.setattr(uses, "_by_engine_id", [])
    return names


@pytest.fixture
def thesis(alice: Person, fake_engine: FakeEngine, users: dict) -> Recipe:
    """Alice's image with three versions."""
    recipe = make_recipe(alice)
    for number in (1, 2, 3):
        make_version(fake_engine, recipe, number)
    recipe.refresh_from_db()
    return recipe


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Believe at once that a tag without a row is a leftover."""
    monkeypatch.setattr(image_sweep, "SUSPECT_FOR", 0.0)
    monkeypatch.setattr(image_sweep, "_suspects", image_sweep._Suspects())


def version(recipe: Recipe, number: int) -> Image:
    return Image.objects.get(recipe=recipe, number=number)


def tags(engine: ContainerEngine) -> set[str]:
    return {tag for image in engine.list_images() for tag in image.tags}


def history(recipe: Recipe) -> list[str]:
    rows = Event.objects.filter(subject_kind="recipe", subject_id=str(recipe.pk))
    return list(rows.order_by("pk").values_list("verb", flat=True))


def policy(**values) -> BuildPolicy:
    return BuildPolicy.objects.update_or_create(pk=BuildPolicy.SINGLETON, defaults=values)[0]


# Delete ------------------------------------------------------------------------------------------


def test_a_deleted_image_is_offered_no_more_at_once_and_its_layers_go_with_the_sweep(
    thesis, alice, fake_engine
):
    deletion = delete_image(recipe=thesis, actor=alice)

    assert [image.number for image in deletion.versions] == [3, 2, 1]
    assert deletion.own_bytes == 3000
    thesis.refresh_from_db()
    assert thesis.deleted_at is not None
    assert set(thesis.images.values_list("retired_cause", flat=True)) == {"deleted"}
    assert "ds01-200001/thesis:3" in tags(fake_engine)

    assert sweep_images() == 3

    assert tags(fake_engine) == {BASE}
    assert [image.id for image in fake_engine.images.values()] == [
        fake_engine.inspect_image(BASE).id
    ]
    assert not thesis.images.exclude(engine_image_id="").exists()
    assert history(thesis) == ["delete", *["removed from the engine"] * 3]
    told = Event.objects.filter(verb="removed from the engine").first()
    assert told.owner == alice
    assert told.evidence["own_bytes"] == 1000
    assert told.evidence["cause"] == "deleted"
    assert sweep_images() == 0


def test_it_is_told_before_what_a_deletion_takes(thesis, alice, bob, fake_engine, users):
    shared = {"id": "shared", "bytes": 700}
    image = version(thesis, 3)
    image.layers = [shared, {"id": "own", "bytes": 40}]
    image.save()
    other = make_recipe(bob, "other")
    make_version(fake_engine, other, 1, base=image.reference, layers=[shared])
    users[image.pk] = ["bob/train"]

    deletion = describe_deletion(recipe=thesis)

    assert deletion.own_bytes == 1000 + 1000 + 40
    assert deletion.containers == ("bob/train",)
    assert deletion.recipes == ("bob/other",)
    assert deletion.blockers == ("Containers stand on it: bob/train.",)
    assert describe_deletion(recipe=thesis, number=1).own_bytes == 1000
    assert not Event.objects.exists()


def test_an_image_that_a_container_uses_is_not_deleted(thesis, alice, fake_engine, users):
    users[version(thesis, 2).pk] = ["alice/train", "bob/eval"]

    with pytest.raises(ImageInUse) as refused:
        delete_image(recipe=thesis, actor=alice)

    assert refused.value.fields["containers"] == ["alice/train", "bob/eval"]
    assert "alice/train" in refused.value.message
    with pytest.raises(ImageInUse):
        delete_version(image=version(thesis, 2), actor=alice)
    assert thesis.images.active().count() == 3
    assert delete_version(image=version(thesis, 1), actor=alice).own_bytes == 1000


def test_a_stranger_deletes_nothing_and_does_not_learn_that_it_exists(thesis, bob, charlie):
    with pytest.raises(NotFound):
        delete_image(recipe=thesis, actor=charlie)
    thesis.sharing = Recipe.Sharing.EVERYBODY
    thesis.save()

    with pytest.raises(RefusedError, match="belongs to alice"):
        delete_image(recipe=thesis, actor=bob)
    with pytest.raises(RefusedError, match="belongs to alice"):
        delete_version(image=version(thesis, 1), actor=bob)

    assert thesis.images.active().count() == 3


def test_an_admin_deletes_anybodys_and_twice_is_told(thesis, admin_person):
    delete_image(recipe=thesis, actor=admin_person)

    with pytest.raises(NotFound):
        delete_image(recipe=thesis, actor=admin_person)


def test_nothing_is_deleted_during_a_build(thesis, alice):
    request_operation(kind="build", owner=alice, actor=alice, params={}, **thesis.subject)

    with pytest.raises(Busy, match="build is under way"):
        delete_image(recipe=thesis, actor=alice)


def test_what_somebody_builds_on_just_now_stays(thesis, alice, bob):
    other = make_recipe(bob, "other")
    Build.objects.create(recipe=other, number=1, base_reference=version(thesis, 3).reference)

    with pytest.raises(ImageInUse, match="being built on it: bob/other"):
        delete_version(image=version(thesis, 3), actor=alice)


def test_an_image_of_the_catalogue_cannot_be_deleted_by_anybody(db, demo_image, admin_person):
    with pytest.raises(ImageRefused):
        delete_version(image=demo_image, actor=admin_person)


def test_after_the_newest_latest_names_the_one_before(thesis, alice, fake_engine):
    delete_version(image=version(thesis, 3), actor=alice)
    sweep_images()

    latest = fake_engine.inspect_image("ds01-200001/thesis:latest")
    assert latest.id == version(thesis, 2).engine_image_id
    assert "ds01-200001/thesis:3" not in tags(fake_engine)


def test_images_made_on_a_deleted_one_keep_working(thesis, alice, bob, fake_engine):
    other = make_recipe(bob, "other")
    child = make_version(fake_engine, other, 1, base=version(thesis, 3).reference)
    delete_image(recipe=thesis, actor=alice)
    sweep_images()

    assert fake_engine.inspect_image(child.reference).id == child.engine_image_id
    assert child.engine_image_id in fake_engine.images
    assert "ds01-200001/thesis:3" not in tags(fake_engine)


# Sweep -------------------------------------------------------------------------------------------


def test_what_only_the_engine_knows_a_container_of_stays_until_it_is_gone(
    thesis, alice, fake_engine
):
    delete_image(recipe=thesis, actor=alice)
    fake_engine.spawn_foreign("by-hand", image="ds01-200001/thesis:2")

    assert sweep_images() == 2
    sweep_images()

    assert "ds01-200001/thesis:2" in tags(fake_engine)
    kept = Event.objects.get(verb="kept on the engine")
    assert kept.evidence["containers"] == ["by-hand"]
    assert kept.after == {"version": 2}
    fake_engine.remove_container("by-hand", force=True)
    assert sweep_images() == 1
    assert tags(fake_engine) == {BASE}


def test_a_container_that_appears_between_the_look_and_the_removal_keeps_its_image(
    thesis, alice, fake_engine, monkeypatch
):
    delete_image(recipe=thesis, actor=alice)
    look = fake_engine.list_containers

    def look_and_be_late():
        seen = look()
        if "late" not in {one.name for one in seen}:
            fake_engine.spawn_foreign("late", image="ds01-200001/thesis:1")
        return seen

    monkeypatch.setattr(fake_engine, "list_containers", look_and_be_late)

    sweep_images()

    assert "ds01-200001/thesis:1" in tags(fake_engine)
    assert version(thesis, 1).engine_image_id in fake_engine.images
    assert "using it" in Event.objects.get(verb="kept on the engine").evidence["why"]


def test_a_row_that_appears_after_the_deletion_keeps_the_image(thesis, alice, fake_engine, users):
    image = version(thesis, 3)
    delete_image(recipe=thesis, actor=alice)
    users[image.pk] = ["alice/adopted"]

    sweep_images()

    assert image.reference in tags(fake_engine)
    assert Event.objects.get(verb="kept on the engine").evidence["containers"] == ["alice/adopted"]


def test_a_sweep_waits_for_a_build_of_the_same_image(thesis, alice, fake_engine):
    delete_version(image=version(thesis, 1), actor=alice)
    build = Build.objects.create(recipe=thesis, number=4, state=Build.State.RUNNING)

    assert sweep_images() == 0
    Build.objects.filter(pk=build.pk).update(state=Build.State.FAILED)
    assert sweep_images() == 1


def test_a_new_image_with_the_name_of_a_deleted_one_loses_nothing(thesis, alice, fake_engine):
    delete_image(recipe=thesis, actor=alice)
    again = make_recipe(alice)
    new = make_version(fake_engine, again, 3)

    sweep_images(now=timezone.now() + DAY)

    assert fake_engine.inspect_image("ds01-200001/thesis:3").id == new.engine_image_id
    assert fake_engine.inspect_image("ds01-200001/thesis:latest").id == new.engine_image_id
    assert len(fake_engine.images) == 2  # the base and the new one


def test_names_that_a_rename_left_behind_go_when_they_are_seen_for_long(
    thesis, fake_engine, monkeypatch, no_patience
):
    fake_engine.tag_image(version(thesis, 1).reference, "ds01-200001/old-name:1")
    fake_engine.tag_image(BASE, "ds01-200001/not-ours:1")
    monkeypatch.setattr(image_sweep, "SUSPECT_FOR", 600.0)
    assert sweep_images() == 0

    monkeypatch.setattr(image_sweep, "SUSPECT_FOR", 0.0)
    assert sweep_images() == 1

    left = tags(fake_engine)
    assert "ds01-200001/old-name:1" not in left
    assert "ds01-200001/not-ours:1" in left  # no build of the portal made it
    assert {f"ds01-200001/thesis:{tag}" for tag in (1, 2, 3, "latest")} <= left


def test_the_own_tag_of_a_container_stays(thesis, fake_engine, no_patience):
    own = "ds01-200001/thesis:train._.200001"
    fake_engine.tag_image(version(thesis, 1).reference, own)
    fake_engine.spawn_foreign("train._.200001", image=own)

    assert sweep_images() == 0

    fake_engine.remove_container("train._.200001", force=True)
    assert sweep_images() == 1


def test_an_unfinished_layer_is_kept_for_a_day_for_the_next_try(thesis, fake_engine, no_patience):
    layer = make_layer(fake_engine)
    fake_engine.tag_image(layer.id, "ds01-200001/thesis:_unfinished")
    build = Build.objects.create(
        recipe=thesis, number=4, state=Build.State.FAILED, finished_at=timezone.now()
    )

    assert sweep_images() == 0

    Build.objects.filter(pk=build.pk).update(finished_at=timezone.now() - 2 * DAY)
    assert sweep_images() == 1
    assert layer.id not in fake_engine.images


def test_names_of_a_build_under_way_are_left_alone(thesis, fake_engine, no_patience):
    layer = make_layer(fake_engine)
    fake_engine.tag_image(layer.id, "ds01-200001/thesis:4")
    Build.objects.create(recipe=thesis, number=4, state=Build.State.RUNNING)

    assert sweep_images(now=timezone.now() + DAY) == 0
    assert layer.id in fake_engine.images


def test_layers_without_a_name_go_when_nobody_can_be_about_to_use_them(thesis, fake_engine):
    layer = make_layer(fake_engine)

    assert sweep_images() == 0
    assert sweep_images(now=timezone.now() + DAY) == 1

    assert layer.id not in fake_engine.images
    assert thesis.images.active().count() == 3


def test_a_version_whose_name_was_taken_away_by_hand_gets_it_back(thesis, fake_engine):
    image = version(thesis, 1)
    fake_engine.find_image(image.reference).tags.clear()

    sweep_images(now=timezone.now() + DAY)

    assert fake_engine.inspect_image(image.reference).id == image.engine_image_id


def test_an_engine_that_is_away_changes_nothing(thesis, alice, fake_engine):
    delete_image(recipe=thesis, actor=alice)
    fake_engine.go_down()

    with pytest.raises(EngineUnreachable):
        sweep_images()

    assert thesis.images.exclude(engine_image_id="").count() == 3
    fake_engine.come_up()
    assert sweep_images() == 3


# Keep N versions ---------------------------------------------------------------------------------


def test_old_versions_go_and_the_newest_stay(thesis, fake_engine):
    policy(versions_kept=2)

    assert [image.number for image in prune_versions(recipe=thesis, dry_run=True)] == [1]
    assert thesis.images.active().count() == 3
    assert [image.number for image in prune_versions(recipe=thesis)] == [1]

    gone = version(thesis, 1)
    assert gone.retired_cause == "pruned"
    assert gone.retired_reason == "older than the 2 newest versions"
    event = Event.objects.get(verb="prune")
    assert event.evidence["kept"] == 2
    assert event.evidence["images"][0]["reference"] == "ds01-200001/thesis:1"
    assert prune_versions(recipe=thesis) == []
    sweep_images()
    assert "ds01-200001/thesis:1" not in tags(fake_engine)


def test_an_old_version_that_is_used_stays(thesis, bob, fake_engine, users):
    policy(versions_kept=1)
    users[version(thesis, 1).pk] = ["alice/train"]
    make_version(fake_engine, make_recipe(bob, "other"), 1, base=version(thesis, 2).reference)

    assert prune_versions(recipe=thesis) == []

    users.clear()
    assert [image.number for image in prune_versions(recipe=thesis)] == [1]


# Unused for long ---------------------------------------------------------------------------------


def test_an_unused_image_is_announced_first_and_goes_days_later(thesis, alice, fake_engine):
    policy(unused_days=30, notice_days=7)
    now = timezone.now()
    thesis.images.update(last_used_at=now - 31 * DAY)
    use_image(image=version(thesis, 3))

    first = prune_images(now=now)

    assert first.noticed == ["ds01-200001/thesis:2", "ds01-200001/thesis:1"]
    assert first.unused == first.old == []
    told = Event.objects.filter(verb="unused").first()
    assert told.owner == alice
    assert "will be removed" in told.reason
    assert prune_images(now=now + 6 * DAY).unused == []

    last = prune_images(now=now + 7 * DAY)

    assert last.unused == ["ds01-200001/thesis:2", "ds01-200001/thesis:1"]
    assert (last.freed_bytes, last.swept) == (2000, 2)
    assert "ds01-200001/thesis:2" not in tags(fake_engine)
    assert version(thesis, 1).retired_reason == "unused for more than 30 days"
    evidence = Event.objects.filter(verb="prune").first().evidence
    assert evidence["unused_days"] == 30
    assert evidence["notice"]
    thesis.refresh_from_db()
    assert thesis.deleted_at is None  # the recipe can be built again


def test_notice_and_removal_never_come_in_one_run(thesis):
    policy(unused_days=1, notice_days=0)
    thesis.images.update(last_used_at=timezone.now() - 9 * DAY)

    assert prune_images().unused == []
    assert len(prune_images().unused) == 3


def test_a_launch_or_a_build_on_top_takes_the_notice_back(thesis):
    policy(unused_days=30, notice_days=7)
    now = timezone.now()
    thesis.images.update(last_used_at=now - 99 * DAY)
    prune_images(now=now)
    image = version(thesis, 1)
    assert image.unused_notice_at == now

    use_image(image=image)

    image.refresh_from_db()
    assert image.unused_notice_at is None
    assert image.last_used_at >= now
    assert prune_images(now=now + 8 * DAY).unused == [
        "ds01-200001/thesis:3",
        "ds01-200001/thesis:2",
    ]


def test_what_is_in_use_counts_as_used_and_the_report_says_why_it_stays(thesis, bob, users):
    policy(unused_days=30, notice_days=7)
    now = timezone.now()
    thesis.images.update(last_used_at=now - 99 * DAY, unused_notice_at=now - 50 * DAY)
    users[version(thesis, 2).pk] = ["bob/train"]

    report = prune_images(now=now)

    assert report.kept == {"ds01-200001/thesis:2": "used by bob/train"}
    assert report.unused == ["ds01-200001/thesis:3", "ds01-200001/thesis:1"]
    assert version(thesis, 2).last_used_at == now
    assert version(thesis, 2).unused_notice_at is None


def test_zero_days_means_never(thesis):
    policy(unused_days=0)
    thesis.images.update(last_used_at=timezone.now() - 999 * DAY)

    report = prune_images()

    assert report.noticed == report.unused == []


def test_a_deleted_image_cannot_be_used_any_more(thesis, alice):
    image = version(thesis, 3)
    delete_image(recipe=thesis, actor=alice)

    with pytest.raises(ImageRefused, match="just been deleted"):
        use_image(image=image)


def test_the_command_prunes_and_prints(thesis, fake_engine, capsys):
    policy(versions_kept=1, unused_days=30)
    Image.objects.filter(recipe=thesis, number=3).update(last_used_at=timezone.now() - 99 * DAY)

    call_command("prune_images", "--dry-run", "--json")

    said = json.loads(capsys.readouterr().out)
    assert said["old_versions"] == ["ds01-200001/thesis:2", "ds01-200001/thesis:1"]
    assert said["noticed"] == ["ds01-200001/thesis:3"]
    assert said["freed_bytes"] == 2000
    assert thesis.images.active().count() == 3
    assert not Event.objects.exists()

    call_command("prune_images")

    text = capsys.readouterr().out
    assert "ds01-200001/thesis:1" in text
    assert ": 2 KB" in text
    assert thesis.images.active().count() == 1


def test_the_command_says_that_the_engine_is_away_with_exit_code_2(thesis, fake_engine, capsys):
    policy(versions_kept=1)
    fake_engine.go_down()

    with pytest.raises(CommandError) as error:
        call_command("prune_images", "--json")

    assert error.value.returncode == 2
    said = json.loads(capsys.readouterr().out)
    assert len(said["old_versions"]) == 2
    assert said["error"]["code"] == "engine-unreachable"


# Quotas and the disk -----------------------------------------------------------------------------


def test_layers_that_versions_share_count_once(thesis, alice, bob, fake_engine):
    shared = {"id": "layer", "bytes": 500}
    thesis.images.update(layers=[shared])
    make_version(
        fake_engine, make_recipe(bob, "his"), 1, layers=[shared, {"id": "x", "bytes": 2**40}]
    )

    assert image_bytes(owner=alice) == 500
    assert image_bytes(owner=bob) == 500 + 2**40
    assert bytes_freed(images=thesis.images.all()) == 0
    quota = read_image_quota(owner=alice)
    assert (quota.images, quota.bytes) == (1, 500)
    assert quota.as_dict()["bytes"] == 500


def test_who_has_filled_the_disk_allowed_is_told_the_numbers(thesis, alice):
    set_limits(subject=alice, values={"disk": 3000}, actor=None)

    with pytest.raises(QuotaExceeded) as refused:
        check_image_quota(owner=alice)

    assert refused.value.fields["used"] == 3000
    assert refused.value.fields["limit"] == 3000
    delete_version(image=version(thesis, 1), actor=alice)
    assert check_image_quota(owner=alice).bytes == 2000


@pytest.fixture
def disk(settings, monkeypatch):
    """An engine on this host whose disk is as full as the test says."""
    settings.DOCKER_HOST = "unix:///run/engine.sock"
    HostFacts.objects.create(pk=1, engine_root="/engine", updated_at=timezone.now())

    def fill(percent: int) -> None:
        used = percent * GIB
        usage = Usage(100 * GIB, used, 100 * GIB - used)
        monkeypatch.setattr(
            image_quota.shutil,
            "disk_usage",
            lambda path: usage if path == "/engine" else shutil.disk_usage(path),
        )

    return fill


def test_a_disk_that_gets_full_is_an_alarm_and_then_ends_builds(db, disk):
    rules = policy(disk_alarm_percent=80, free_disk_floor_bytes=10 * GIB)
    disk(79)
    assert disk_alarm() is None
    assert check_free_disk(policy=rules) == ""

    disk(85)
    alarm = disk_alarm()
    assert alarm is not None
    assert (alarm.used_percent, alarm.blocks) == (85, False)
    assert "85 % full: 15 GB of 100 GB are free in /engine" in check_free_disk(policy=rules)

    disk(91)
    assert disk_alarm().blocks
    with pytest.raises(RefusedError) as refused:
        check_free_disk(policy=rules)
    assert refused.value.code == "disk-full"
    assert "9 GB are free" in refused.value.message


def test_a_disk_that_cannot_be_seen_stops_nobody(db, disk, settings):
    disk(99)
    settings.DOCKER_HOST = "tcp://elsewhere:2376"

    assert disk_alarm() is None
    assert "not known" in check_free_disk(policy=BuildPolicy())
    HostFacts.objects.all().delete()
    settings.DOCKER_HOST = "unix:///run/engine.sock"
    assert "not known" in check_free_disk(policy=BuildPolicy())


# On a real engine --------------------------------------------------------------------------------


@pytest.mark.engine
def test_a_real_engine_keeps_the_base_and_loses_every_layer(alice, real_engine, users):
    before = {image.id for image in real_engine.find_images(label="ds01.demo")}
    recipe = make_recipe(alice, "care")
    first = make_version(real_engine, recipe, 1)
    second = make_version(real_engine, recipe, 2, base=first.reference)
    delete_version(image=first, actor=alice)

    assert sweep_images() == 1

    assert second.reference in tags(real_engine)
    assert real_engine.inspect_image(second.reference).parent == first.engine_image_id
    delete_image(recipe=recipe, actor=alice)
    assert sweep_images() == 1
    assert {image.id for image in real_engine.find_images(label="ds01.demo")} == before
    assert not any("/care:" in tag for tag in tags(real_engine))


@pytest.mark.engine
def test_a_real_engine_keeps_what_a_container_stands_on(alice, real_engine, users, monkeypatch):
    recipe = make_recipe(alice, "held")
    image = make_version(real_engine, recipe, 1)
    name = "ds01-build.held.1"
    real_engine.end_step(name)
    delete_image(recipe=recipe, actor=alice)
    # Nobody knows of the container: only the engine itself is left to refuse.
    monkeypatch.setattr(image_sweep, "_containers_by_image", lambda engine: {})
    real_engine.prepare_step(
        StepSpec(
            name=name,
            image=image.reference,
            command="true",
            labels={"aime.mlc.DS01_TEMP": "true"},
            network="none",
            cpus=1,
            memory=64 * 1024**2,
            memory_swap=64 * 1024**2,
            pids_limit=16,
        )
    )
    try:
        assert sweep_images() == 0
        assert image.reference in tags(real_engine)
        assert Event.objects.filter(verb="kept on the engine").count() == 1
    finally:
        real_engine.end_step(name)
    assert sweep_images() == 1
    assert image.reference not in tags(real_engine)
