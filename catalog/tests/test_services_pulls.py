"""Pulls: one for everybody who waits, progress for each, cancel at any point."""

from __future__ import annotations

import datetime as dt
import threading

import pytest
from django.utils import timezone

from catalog.models import Image
from catalog.services.images import retire_image
from catalog.services.pulls import (
    carry_out_pull,
    ensure_image,
    find_image_on_engine,
    request_pull,
)
from catalog.tests.engines import ImageEngine
from ds01portal.exceptions import (
    EngineUnreachable,
    ImagePullFailed,
    ImageRefused,
    InvalidInput,
    PortalError,
)
from ds01portal.models import Event, Operation
from ds01portal.services.operations import Cancelled, Work, cancel_operation, claim_operation

NAME = "lab/alpha-2.1.0-cuda11.8.0"


class Asker(threading.Thread):
    """Somebody who wants an image, and may change their mind."""

    def __init__(self, engine: ImageEngine) -> None:
        super().__init__(daemon=True)
        self.engine = engine
        self.progress: list[float | None] = []
        self.heard = threading.Event()
        self.leaving = threading.Event()
        self.details = None
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self.details = ensure_image(
                engine=self.engine,
                reference=NAME,
                on_progress=self._hear,
                is_cancelled=self.leaving.is_set,
            )
        except PortalError as error:
            self.error = error

    def _hear(self, progress) -> None:
        self.progress.append(progress.percent)
        self.heard.set()


@pytest.fixture
def held(engine) -> ImageEngine:
    """Return an engine whose pulls stop half way until the test lets them go."""
    engine.gate.clear()
    return engine


def start_askers(engine, count):
    askers = [Asker(engine) for _ in range(count)]
    for asker in askers:
        asker.start()
    for asker in askers:
        assert asker.heard.wait(5)
    return askers


def finish(askers):
    for asker in askers:
        asker.join(5)
        assert not asker.is_alive()


def test_an_image_that_is_here_is_not_pulled(engine):
    engine.images = ImageEngine(NAME).images

    details = ensure_image(
        reference=NAME, on_progress=lambda progress: None, is_cancelled=lambda: False
    )

    assert details.tags == (f"{NAME}:latest",)
    assert engine.pulled == []
    assert find_image_on_engine(reference=NAME) == details
    assert find_image_on_engine(reference="lab/other") is None


def test_everybody_who_waits_shares_one_pull_and_sees_it(held):
    askers = start_askers(held, 5)

    held.gate.set()
    finish(askers)

    assert held.pulled == [NAME]
    assert all(asker.details is not None and asker.progress[0] == 50 for asker in askers)


def test_who_leaves_does_not_take_the_pull_from_the_others(held):
    leaver, stayer = start_askers(held, 2)

    leaver.leaving.set()
    finish([leaver])
    held.gate.set()
    finish([stayer])

    assert isinstance(leaver.error, ImagePullFailed)
    assert leaver.error.fields["cancelled"] is True
    assert stayer.details is not None
    assert held.cancelled == []


def test_the_pull_ends_when_the_last_one_has_left_and_can_be_asked_again(held):
    askers = start_askers(held, 2)
    for asker in askers:
        asker.leaving.set()
    finish(askers)

    again = start_askers(held, 1)
    held.gate.set()
    finish(again)

    assert again[0].details is not None
    assert held.pulled == [NAME, NAME]


def test_everybody_hears_of_a_failure_and_the_next_one_tries_again(held):
    held.pull_error = ImagePullFailed("The registry says no.", hint="Ask an admin.", image=NAME)
    askers = start_askers(held, 3)

    held.gate.set()
    finish(askers)

    assert [str(asker.error) for asker in askers] == ["The registry says no."] * 3
    assert len({id(asker.error) for asker in askers}) == 3
    held.pull_error = None
    again = ensure_image(reference=NAME, on_progress=lambda p: None, is_cancelled=lambda: False)
    assert again.tags == (f"{NAME}:latest",)


def test_an_unexpected_fault_becomes_a_plain_error_with_its_cause(engine):
    engine.pull_error = ZeroDivisionError("deep inside")

    with pytest.raises(ImagePullFailed, match="The pull of lab/a failed") as failed:
        ensure_image(reference="lab/a", on_progress=lambda p: None, is_cancelled=lambda: False)

    assert "deep inside" in failed.value.cause


def test_a_callback_that_fails_leaves_the_others_alone(held):
    (stayer,) = start_askers(held, 1)

    def lose_the_lease(progress):
        raise RuntimeError("lease lost")

    with pytest.raises(RuntimeError, match="lease lost"):
        ensure_image(
            engine=held, reference=NAME, on_progress=lose_the_lease, is_cancelled=lambda: False
        )
    held.gate.set()
    finish([stayer])

    assert stayer.details is not None


def test_trouble_with_the_engine_is_not_taken_for_a_missing_image(engine):
    engine.unreachable = True

    with pytest.raises(EngineUnreachable):
        ensure_image(reference=NAME, on_progress=lambda p: None, is_cancelled=lambda: False)
    with pytest.raises(EngineUnreachable):
        find_image_on_engine(reference=NAME)


def test_nonsense_never_reaches_the_engine(engine):
    with pytest.raises(InvalidInput):
        ensure_image(reference="-v", on_progress=lambda p: None, is_cancelled=lambda: False)

    assert engine.pulled == []


def test_the_mirror_is_asked_and_leaves_no_name_behind(engine, settings):
    settings.DS01_REGISTRY_MIRROR = "registry.example.org/hub"

    ensure_image(reference=NAME, on_progress=lambda p: None, is_cancelled=lambda: False)

    assert engine.pulled == [f"registry.example.org/hub/{NAME}"]
    assert list(engine.images) == [f"{NAME}:latest"]


def test_a_digest_is_pulled_from_where_it_belongs(engine, settings):
    settings.DS01_REGISTRY_MIRROR = "registry.example.org/hub"
    name = f"{NAME}@sha256:{'0' * 64}"

    ensure_image(reference=name, on_progress=lambda p: None, is_cancelled=lambda: False)

    assert engine.pulled == [name]


@pytest.mark.django_db
class TestPullAheadOfTime:
    """An admin asks, the worker carries it out."""

    def claim(self) -> Work:
        operation = claim_operation(worker="test")
        assert operation is not None
        return Work(operation)

    def test_the_image_is_here_afterwards_with_its_size(self, catalogue, engine, admin_person):
        operation = request_pull(image=catalogue[2], actor=admin_person)

        work = self.claim()
        carry_out_pull(work)
        work.finish()

        image = Image.objects.get(pk=catalogue[2].pk)
        operation.refresh_from_db()
        assert operation.state == Operation.State.DONE
        assert operation.phase == "pull"
        assert image.is_on_engine
        assert image.size_bytes
        assert Event.objects.get(verb="pull").actor == admin_person

    def test_asked_twice_it_is_one_operation(self, catalogue, admin_person, alice):
        first = request_pull(image=catalogue[2], actor=admin_person)

        assert request_pull(image=catalogue[2], actor=alice).pk == first.pk

    def test_a_cancel_ends_it_without_a_trace(self, catalogue, held, admin_person):
        operation = request_pull(image=catalogue[2], actor=admin_person)
        work = self.claim()
        cancel_operation(operation=operation, actor=admin_person)

        with pytest.raises(Cancelled):
            carry_out_pull(work)

        assert not Image.objects.on_engine().exists()
        assert not Event.objects.filter(verb="pull").exists()

    def test_a_cancel_half_way_is_a_cancel(self, catalogue, held, admin_person, monkeypatch):
        request_pull(image=catalogue[2], actor=admin_person)
        work = self.claim()
        monkeypatch.setattr(work, "check_cancelled", lambda: None)
        past = timezone.now() - dt.timedelta(seconds=1)
        monkeypatch.setattr(work.operation, "deadline_at", past)

        with pytest.raises(Cancelled):
            carry_out_pull(work)

    def test_a_failed_pull_keeps_its_error(self, catalogue, engine, admin_person):
        engine.pull_error = ImagePullFailed("No such image.", image=NAME)
        request_pull(image=catalogue[2], actor=admin_person)

        with pytest.raises(ImagePullFailed, match=r"No such image\."):
            carry_out_pull(self.claim())

    def test_a_row_that_names_another_image_by_now_is_left_alone(
        self, catalogue, engine, admin_person
    ):
        request_pull(image=catalogue[2], actor=admin_person)
        Image.objects.filter(pk=catalogue[2].pk).update(reference="lab/alpha-2.1.1")

        carry_out_pull(self.claim())

        assert not Image.objects.get(pk=catalogue[2].pk).is_on_engine

    def test_local_and_retired_images_are_not_pulled(self, catalogue, admin_person):
        local = Image.objects.create(
            kind="local", framework="Local", framework_slug="local", version="1", reference="lab/x"
        )
        retired = retire_image(image=catalogue[0], actor=admin_person)

        with pytest.raises(ImageRefused, match="cannot be pulled"):
            request_pull(image=local, actor=admin_person)
        with pytest.raises(ImageRefused, match="is retired"):
            request_pull(image=retired, actor=admin_person)

        assert not Operation.objects.exists()
