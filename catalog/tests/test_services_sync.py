"""Synchronising: idempotent, all or nothing, retiring and never deleting."""

from __future__ import annotations

import pytest

from catalog.models import CatalogueState, Image
from catalog.services.images import restore_image, retire_image
from catalog.services.sync import CatalogueRefused, sync_catalog
from catalog.tests.conftest import SAMPLE
from ds01portal.exceptions import InvalidInput
from ds01portal.models import Event, Update

pytestmark = pytest.mark.django_db


def contents():
    return list(
        Image.objects.order_by("pk").values_list(
            "framework", "version", "architectures", "reference", "position", "retired_cause"
        )
    )


def rewrite(path, *changes):
    data = path.read_bytes()
    for old, new in changes:
        assert old in data
        data = data.replace(old, new)
    path.write_bytes(data)


def test_the_shipped_snapshot_is_the_source_without_any_other():
    report = sync_catalog()

    assert (report.source, len(report.added), report.bad) == ("shipped snapshot", 116, ())


def test_the_setting_names_the_source(settings, sample):
    settings.AIME_CATALOG = str(sample)

    assert sync_catalog().loaded == 6


def test_a_second_run_changes_nothing_and_says_so(sample):
    first = sync_catalog(source=sample)
    before, events = contents(), Event.objects.count()

    second = sync_catalog(source=sample)

    assert len(first.added) == 6
    assert second.is_quiet
    assert second.unchanged == 6
    assert contents() == before
    assert Event.objects.count() == events == 6


def test_a_dry_run_reports_and_changes_nothing(sample):
    report = sync_catalog(source=sample, dry_run=True)

    assert report.dry_run
    assert len(report.added) == 6
    assert not Image.objects.exists()
    assert not Event.objects.exists()
    assert not Update.objects.exists()


def test_a_new_line_on_top_comes_first(catalogue, sample):
    sample.write_bytes(b"Alpha, 4.0, [CUDA_ADA], lab/alpha-4.0-cuda12.6\n" + SAMPLE)

    report = sync_catalog(source=sample)

    assert len(report.added) == 1
    assert report.unchanged == 6
    assert Image.objects.in_order().first().version == "4.0"


def test_another_image_for_a_row_is_a_change_with_its_history(catalogue, sample):
    Image.objects.filter(version="3.0.0").update(engine_image_id="sha256:1", size_bytes=7)
    rewrite(sample, (b"lab/alpha-3.0.0-cuda12.8.1", b"lab/alpha-3.0.0-cuda12.8.2"))

    report = sync_catalog(source=sample)

    image = Image.objects.get(version="3.0.0")
    event = Event.objects.latest("id")
    assert report.changed == (
        "Alpha 3.0.0: lab/alpha-3.0.0-cuda12.8.1 → lab/alpha-3.0.0-cuda12.8.2",
    )
    assert image.pk == catalogue[0].pk
    assert (image.is_on_engine, image.size_bytes) == (False, None)
    assert event.before == {"reference": "lab/alpha-3.0.0-cuda12.8.1"}


def test_another_list_of_architectures_is_the_same_row(catalogue, sample):
    rewrite(sample, (b"[CUDA_AMPERE], lab/alpha-2.0.0", b"[CUDA_AMPERE;CUDA], lab/alpha-2.0.0"))

    report = sync_catalog(source=sample)

    assert (len(report.changed), len(report.added), len(report.retired)) == (1, 0, 0)
    assert Image.objects.get(version="2.0.0").pk == catalogue[3].pk
    assert Image.objects.get(version="2.0.0").architecture_list == ["CUDA", "CUDA_AMPERE"]


def test_a_vanished_image_is_retired_and_comes_back(catalogue, sample):
    line = b"Alpha, 2.0.0, [CUDA_AMPERE], lab/alpha-2.0.0-cuda11.7\n"
    rewrite(sample, (line, b""))

    gone = sync_catalog(source=sample)
    retired = Image.objects.get(version="2.0.0")
    sample.write_bytes(SAMPLE)
    back = sync_catalog(source=sample)

    assert len(gone.retired) == 1
    assert retired.retired_cause == "vanished"
    assert "not in" in retired.retired_reason
    assert len(back.restored) == 1
    assert back.unchanged == 5
    assert not Image.objects.get(version="2.0.0").is_retired
    assert Image.objects.count() == 6


def test_what_an_admin_retired_stays_retired(catalogue, sample, admin_person):
    retire_image(image=catalogue[1], actor=admin_person, reason="broken")

    report = sync_catalog(source=sample)

    assert report.is_quiet
    assert Image.objects.get(pk=catalogue[1].pk).retired_reason == "broken"
    restore_image(image=catalogue[1], actor=admin_person)
    assert not Image.objects.get(pk=catalogue[1].pk).is_retired


@pytest.mark.parametrize("data", [b"", b"\n", b"# nothing\n", b"garbage\n", b"\xff\xfe\x00", b"{"])
def test_a_file_without_a_usable_row_never_empties_the_catalogue(catalogue, sample, data):
    before = contents()
    sample.write_bytes(data)

    with pytest.raises(CatalogueRefused, match="no usable row") as refused:
        sync_catalog(source=sample, allow_shrink=True)

    assert refused.value.fields["active"] == 6
    assert contents() == before


def test_a_file_that_keeps_fewer_than_half_is_refused_unless_it_is_meant(catalogue, sample):
    before = contents()
    sample.write_bytes(b"\n".join(SAMPLE.splitlines()[:4]) + b"\n")

    with pytest.raises(CatalogueRefused, match="keeps only 2 of the 6 images") as refused:
        sync_catalog(source=sample)
    assert contents() == before
    assert (refused.value.fields["remaining"], refused.value.fields["active"]) == (2, 6)

    report = sync_catalog(source=sample, allow_shrink=True)
    assert len(report.retired) == 4
    assert Image.objects.active().count() == 2


def test_a_file_that_ends_within_a_line_retires_nothing(catalogue, sample):
    sample.write_bytes(SAMPLE[: SAMPLE.index(b"2.1.0, ")])

    report = sync_catalog(source=sample)

    assert report.cut_off
    assert report.retired == ()
    assert Image.objects.active().count() == 6


def test_bad_lines_are_named_and_remembered(catalogue, sample):
    rewrite(sample, (b"[CUDA_BLACKWELL]", b"CUDA_BLACKWELL"))

    report = sync_catalog(source=sample)

    assert [problem.line for problem in report.bad] == [3]
    assert len(report.retired) == 1
    assert CatalogueState.objects.get().problems[0]["line"] == 3


@pytest.mark.parametrize("name", ["missing.repo", "."])
def test_a_file_that_cannot_be_read_is_refused(tmp_path, name):
    with pytest.raises(InvalidInput, match="cannot be read"):
        sync_catalog(source=tmp_path / name)


def test_a_huge_file_is_refused(tmp_path):
    path = tmp_path / "huge"
    path.write_bytes(b"x" * 10_000_001)

    with pytest.raises(InvalidInput, match="larger than"):
        sync_catalog(source=path)


def test_a_failure_half_way_leaves_the_catalogue_as_it_was(catalogue, sample, monkeypatch):
    before = contents()
    rewrite(
        sample,
        (b"lab/alpha-3.0.0-cuda12.8.1", b"lab/alpha-3.0.0-cuda12.8.2"),
        (b"lab/tensorflow-1.5.0-cuda12.3", b"lab/tensorflow-1.5.0-cuda12.4"),
    )
    written = []

    def fail_at_the_second(**values):
        written.append(values)
        if len(written) == 2:
            raise RuntimeError("power cut")

    monkeypatch.setattr("catalog.services.sync.record_event", fail_at_the_second)
    with pytest.raises(RuntimeError, match="power cut"):
        sync_catalog(source=sample)

    assert contents() == before


def test_live_pages_hear_of_a_change_only(sample):
    sync_catalog(source=sample)
    assert Update.objects.filter(subject="catalog").count() == 1

    sync_catalog(source=sample)
    assert Update.objects.filter(subject="catalog").count() == 1
