"""Silence, refusals and nonsense from an engine are told apart, and none is evidence."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from django.test import override_settings

from ds01portal.engine import get_engine, reset_engine
from ds01portal.engine.dockerd import DockerEngine
from ds01portal.engine.dockerd.errors import from_status
from ds01portal.engine.fake import FakeEngine
from ds01portal.exceptions import (
    DeviceDriverMissing,
    EngineConflict,
    EngineError,
    EngineTimeout,
    EngineUnreachable,
    ImagePullFailed,
    MissingOnEngine,
    OutOfMemory,
    RlimitRefused,
)

from .stubs import engine_stub


def test_only_the_engines_own_word_makes_a_container_missing(tmp_path: Path) -> None:
    answers = {
        "/containers/gone/json": (404, {"message": "No such container: gone"}),
        "/containers/odd/json": (404, {"message": "page not found"}),
        "/containers/broken/json": (500, {"message": "No such container: of the driver's"}),
        "/containers/nonsense/json": (200, "<html>it works</html>"),
    }
    with engine_stub(tmp_path / "s", answers) as address:
        engine = DockerEngine(address)
        with pytest.raises(MissingOnEngine):
            engine.inspect_container("gone")
        for name in ("odd", "broken", "nonsense"):
            with pytest.raises(EngineError) as failed:
                engine.inspect_container(name)
            assert type(failed.value) is EngineError
            assert failed.value.cause


def test_a_failed_removal_is_not_a_removal(tmp_path: Path) -> None:
    answers = {"/containers/x": (500, {"message": "driver failed to remove root filesystem"})}
    with engine_stub(tmp_path / "s", answers) as address, pytest.raises(EngineError) as failed:
        DockerEngine(address).remove_container("x")
    assert "root filesystem" in failed.value.cause


def test_an_engine_that_hangs_times_out(tmp_path: Path) -> None:
    with engine_stub(tmp_path / "s", {"/containers/x/json": (200, "hang")}) as address:
        began = time.monotonic()
        with pytest.raises(EngineTimeout):
            DockerEngine(address, timeout=1).inspect_container("x")
        assert time.monotonic() - began < 3


def test_an_engine_that_hangs_up_is_unreachable(tmp_path: Path) -> None:
    with engine_stub(tmp_path / "s", {}) as address:
        engine = DockerEngine(address, timeout=5)
        with pytest.raises(EngineError):
            engine.list_images()
    with pytest.raises(EngineUnreachable):  # it knew the engine before
        engine.list_images()


def test_events_that_end_mean_the_engine_is_gone(tmp_path: Path) -> None:
    with engine_stub(tmp_path / "s", {"/events": (200, "")}) as address:
        engine = DockerEngine(address)
        with pytest.raises(EngineUnreachable):
            list(engine.watch_events(since=None, should_stop=lambda: False))


def test_a_pull_that_breaks_off_is_not_a_pull(tmp_path: Path) -> None:
    line = json.dumps({"id": "a", "status": "Pulling fs layer"}) + "\n"
    answers = {
        "/images/create": (200, line),
        "/images/x:1/json": (404, {"message": "No such image: x:1"}),
    }
    with engine_stub(tmp_path / "s", answers) as address, pytest.raises(ImagePullFailed) as failed:
        DockerEngine(address).pull_image(
            "x:1", on_progress=lambda _: None, is_cancelled=lambda: False
        )
    assert "cancelled" not in failed.value.fields


def test_what_a_callback_throws_is_not_blamed_on_the_engine(tmp_path: Path) -> None:
    def broken() -> bool:
        raise TimeoutError("the database")

    unchanged = pytest.raises(TimeoutError, match="the database")
    with engine_stub(tmp_path / "s", {"/images/create": (200, "hang")}) as address, unchanged:
        DockerEngine(address).pull_image("x:1", on_progress=print, is_cancelled=broken)


def test_an_engine_that_is_too_old_is_refused(tmp_path: Path) -> None:
    too_old = pytest.raises(EngineError, match="too old")
    with engine_stub(tmp_path / "s", {}, api_version="1.40") as address, too_old:
        DockerEngine(address).ping()


def test_a_socket_that_may_not_be_opened_says_so() -> None:
    from ds01portal.engine.dockerd.errors import unreachable

    error = unreachable(ConnectionError("aborted", PermissionError(13, "Permission denied")))
    assert "may not open" in error.hint


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (500, 'could not select device driver "" with capabilities: [[gpu]]', DeviceDriverMissing),
        (500, "error setting rlimit type 8: operation not permitted", RlimitRefused),
        (500, "fork/exec /usr/bin/runc: cannot allocate memory", OutOfMemory),
        (409, "name is already in use", EngineConflict),
        (400, "invalid reference format", EngineError),
    ],
)
def test_known_refusals_have_their_own_kind(
    status: int, text: str, kind: type[EngineError]
) -> None:
    error = from_status(status, text, doing="start the container")
    assert type(error) is kind
    assert text in error.cause
    assert text not in error.message


def test_the_settings_name_the_engine() -> None:
    reset_engine()
    try:
        with override_settings(DS01_ENGINE="ds01portal.engine.fake.FakeEngine"):
            engine = get_engine()
            assert isinstance(engine, FakeEngine)
            assert get_engine() is engine
        reset_engine()
        with override_settings(
            DS01_ENGINE="ds01portal.engine.dockerd.DockerEngine", DOCKER_HOST="unix:///none.sock"
        ):
            assert isinstance(get_engine(), DockerEngine)
        reset_engine()
        with override_settings(DS01_ENGINE="types.SimpleNamespace"), pytest.raises(TypeError):
            get_engine()
    finally:
        reset_engine()
