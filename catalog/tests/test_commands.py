"""The catalogue's commands: no prompt, JSON, exit codes."""

from __future__ import annotations

import json

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from catalog.models import Image
from catalog.services.hosts import record_host_facts

pytestmark = pytest.mark.django_db


def run(capsys, *args):
    call_command(*args)
    return capsys.readouterr()


def run_refused(capsys, *args):
    with pytest.raises(CommandError) as refused:
        call_command(*args)
    return refused.value, capsys.readouterr().out


def test_sync_catalog_reports_every_bad_line_with_its_number(capsys, sample):
    sample.write_bytes(sample.read_bytes() + b"Alpha, 9.9\nAlpha, 3.0.0, [CUDA_BLACKWELL], lab/x\n")

    out = run(capsys, "sync_catalog", "--source", str(sample), "-v2").out

    assert "added         6" in out
    assert "Alpha 2.1.0 [CUDA_ADA;CUDA_AMPERE] lab/alpha-2.1.0-cuda11.8.0" in out
    assert "line 9: 2 fields, not 4" in out
    assert "line 10: duplicate: Alpha 3.0.0 for CUDA_BLACKWELL is there on line 3" in out
    assert "6 rows usable, 1 blank lines, 1 comments" in out


def test_sync_catalog_dry_run_as_json(capsys, sample):
    report = json.loads(
        run(capsys, "sync_catalog", "--source", str(sample), "--dry-run", "--json").out
    )

    assert (report["dry_run"], len(report["added"]), report["loaded"]) == (True, 6, 6)
    assert not Image.objects.exists()


def test_sync_catalog_refuses_a_broken_file_with_exit_code_1(capsys, catalogue, sample):
    sample.write_bytes(b"Alpha, 1\n")

    error, out = run_refused(capsys, "sync_catalog", "--source", str(sample), "--json")

    answer = json.loads(out)["error"]
    assert error.returncode == 1
    assert answer["code"] == "catalogue-refused"
    assert answer["fields"]["bad"][0]["line"] == 1
    assert Image.objects.active().count() == 6


def test_sync_catalog_says_when_the_file_is_cut_off(capsys, catalogue, sample):
    data = sample.read_bytes()
    sample.write_bytes(data[: data.index(b"2.1.0, ")])

    assert "nothing was retired" in run(capsys, "sync_catalog", "--source", str(sample)).out


def test_sync_catalog_shrinks_only_when_told(capsys, catalogue, sample):
    sample.write_bytes(b"Alpha, 3.0.0, [CUDA_BLACKWELL], lab/alpha-3.0.0-cuda12.8.1\n")

    error, _out = run_refused(capsys, "sync_catalog", "--source", str(sample))
    assert "--allow-shrink" in str(error)

    out = run(capsys, "sync_catalog", "--source", str(sample), "--allow-shrink").out
    assert "retired       5" in out


def test_lookup_image_prints_the_image_alone(capsys, catalogue):
    result = run(capsys, "lookup_image", "alpha", "--version", "2.1.0", "--arch", "CUDA_AMPERE")

    assert result.out == "lab/alpha-2.1.0-cuda11.8.0\n"
    assert result.err == ""


def test_lookup_image_as_json(capsys, catalogue):
    record_host_facts(driver_version="560", cuda_version=(12, 6))

    answer = json.loads(run(capsys, "lookup_image", "alpha", "--json").out)

    assert answer["image"] == "lab/alpha-2.1.0-extra-cuda12.6.3"
    assert (answer["fit"], answer["is_fallback"]) == ("fits", False)


def test_lookup_image_notes_a_fallback_and_what_cannot_run(capsys, catalogue):
    record_host_facts(driver_version="560", cuda_version=(12, 0))

    fallback = run(capsys, "lookup_image", "torch", "--arch", "CUDA_ADA")
    newer = run(capsys, "lookup_image", "alpha", "--arch", "CUDA_BLACKWELL")

    assert "This is the fallback" in fallback.err
    assert "Note: needs CUDA 12.8" in newer.err


def test_lookup_image_of_an_unknown_version_lists_what_there_is(capsys, catalogue):
    args = ["lookup_image", "alpha", "--version", "9.9", "--arch", "CUDA_ADA"]

    error, out = run_refused(capsys, *args)
    as_json, json_out = run_refused(capsys, *args, "--json")

    assert (error.returncode, as_json.returncode) == (1, 1)
    assert "Available: 2.1.0-extra, 2.1.0." in str(error)
    assert out == ""
    assert json.loads(json_out)["error"]["fields"]["available"] == ["2.1.0-extra", "2.1.0"]


def test_list_images_shows_what_can_be_launched(capsys, catalogue, admin_person):
    Image.objects.filter(version="2.0.0").update(engine_image_id="sha256:1", size_bytes=5)
    Image.objects.create(
        kind="local", framework="Local", framework_slug="local", version="1", reference="lab/x"
    )

    table = run(capsys, "list_images").out
    answer = json.loads(run(capsys, "list_images", "--json").out)
    everything = json.loads(run(capsys, "list_images", "--json", "--all").out)

    assert "Alpha 2.0.0                 CUDA_AMPERE               here" in table
    assert len(answer["images"]) == 6
    assert answer["images"][3]["on_this_machine"] is True
    assert answer["images"][3]["size_bytes"] == 5
    assert len(everything["images"]) == 7
