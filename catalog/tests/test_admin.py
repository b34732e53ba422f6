"""Admin: verbs with one message per image, no add, no delete, tables in and out."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile

from catalog.models import Image
from catalog.tests.conftest import SAMPLE
from catalog.tests.engines import make_details
from ds01portal.models import Event, Operation

pytestmark = pytest.mark.django_db
CHANGELIST = "/admin/catalog/image/"


def act(client, action, *images):
    response = client.post(
        CHANGELIST,
        {"action": action, "_selected_action": [image.pk for image in images]},
        follow=True,
    )
    assert response.status_code == 200
    return [(message.level_tag, message.message) for message in response.context["messages"]]


def test_the_list_and_an_image_are_shown_read_only(ada_client, catalogue):
    listing = ada_client.get(CHANGELIST).content.decode()
    page = ada_client.get(f"{CHANGELIST}{catalogue[0].pk}/change/").content.decode()

    assert "lab/alpha-3.0.0-cuda12.8.1" in listing
    assert "Synchronise" in listing
    assert "delete_selected" not in listing
    assert 'name="_save"' not in page
    for path in ("add/", f"{catalogue[0].pk}/delete/"):
        assert ada_client.get(f"{CHANGELIST}{path}").status_code == 403


@pytest.mark.parametrize("query", ["here=yes", "here=no", "q=tensorflow", "retired_cause__exact="])
def test_the_list_is_filtered(ada_client, catalogue, query):
    Image.objects.filter(version="2.0.0").update(engine_image_id="sha256:1")

    response = ada_client.get(f"{CHANGELIST}?{query}")

    expected = {"here=yes": 1, "here=no": 5, "q=tensorflow": 1}.get(query, 6)
    assert response.context["cl"].result_count == expected


def test_the_list_needs_a_constant_number_of_queries(
    ada_client, catalogue, admin_person, django_assert_max_num_queries
):
    act(ada_client, "pull_images", *catalogue)

    with django_assert_max_num_queries(14):
        ada_client.get(CHANGELIST)


def test_retire_and_restore_report_each_image(ada_client, catalogue):
    retired = act(ada_client, "retire_images", catalogue[0], catalogue[1])
    again = act(ada_client, "retire_images", catalogue[0])
    restored = act(ada_client, "restore_images", catalogue[0])

    assert [level for level, _text in retired] == ["success", "success"]
    assert again[0][0] == "error"
    assert "retired already" in again[0][1]
    assert restored[0][0] == "success"
    assert Event.objects.filter(verb="retire", actor__username="ada").count() == 2


def test_a_pull_is_queued_and_its_progress_shown(ada_client, catalogue):
    Image.objects.filter(pk=catalogue[1].pk).update(engine_image_id="sha256:1")

    told = act(ada_client, "pull_images", catalogue[0], catalogue[1])
    Operation.objects.update(state="running", percent=41.6)

    assert "will be pulled" in told[0][1]
    assert "is on this machine already" in told[1][1]
    assert Operation.objects.get().subject_id == str(catalogue[0].pk)
    assert "in progress, 42 %" in ada_client.get(CHANGELIST).content.decode()

    Operation.objects.update(state="failed", percent=None, error={"message": "No such image."})
    assert "failed: No such image." in ada_client.get(CHANGELIST).content.decode()


def test_looking_at_the_engine_reports_trouble_and_success(ada_client, catalogue, engine):
    engine.unreachable = True
    assert act(ada_client, "look_at_engine", catalogue[0])[0][0] == "error"

    engine.unreachable = False
    engine.images = {"a": make_details(catalogue[0].reference)}
    assert act(ada_client, "look_at_engine", catalogue[0]) == [
        ("success", "1 image is on this machine.")
    ]


def test_synchronising_is_previewed_and_then_done(ada_client, sample, settings):
    settings.AIME_CATALOG = str(sample)
    url = f"{CHANGELIST}sync/"

    preview = ada_client.get(url).content.decode()
    assert "6 usable rows" in preview
    assert not Image.objects.exists()

    response = ada_client.post(url, follow=True)
    assert "6 added" in str(next(iter(response.context["messages"])))
    assert Image.objects.count() == 6


def test_a_broken_file_is_explained_and_a_small_one_needs_a_word(
    ada_client, catalogue, sample, settings
):
    settings.AIME_CATALOG = str(sample)
    url = f"{CHANGELIST}sync/"
    sample.write_bytes(b"Alpha, 1\n")
    broken = ada_client.get(url).content.decode()
    assert "no usable row" in broken
    assert "line 1" in broken
    assert 'value="Synchronise"' not in broken

    sample.write_bytes(SAMPLE.splitlines()[2] + b"\n")
    assert "allow_shrink" in ada_client.post(url).content.decode()
    assert Image.objects.active().count() == 6
    ada_client.post(url, {"allow_shrink": "on"})
    assert Image.objects.active().count() == 1


def test_a_local_image_is_offered_by_its_name(ada_client, engine):
    url = f"{CHANGELIST}allow-local/"
    engine.images = {"lab/vision:v4": make_details("lab/vision:v4")}

    assert ada_client.get(url).status_code == 200
    wrong = ada_client.post(url, {"reference": "Lab/Vision"}).content.decode()
    missing = ada_client.post(url, {"reference": "lab/other"}).content.decode()
    ada_client.post(url, {"reference": "lab/vision:v4", "visible": "on"})

    assert "lower case" in wrong
    assert "no image lab/other on this machine" in missing
    assert Image.objects.local().get().visible


def test_who_may_only_look_gets_no_verbs(alice_client, alice, catalogue):
    alice.is_staff = True
    alice.save()
    alice.user_permissions.add(Permission.objects.get(codename="view_image"))

    listing = alice_client.get(CHANGELIST).content.decode()

    assert "lab/alpha-3.0.0-cuda12.8.1" in listing
    assert "retire_images" not in listing
    assert "Synchronise" not in listing
    for path in ("sync/", "allow-local/", "import/"):
        assert alice_client.get(f"{CHANGELIST}{path}").status_code == 403
        assert alice_client.post(f"{CHANGELIST}{path}").status_code == 403


def test_a_student_does_not_get_in(alice_client, catalogue):
    for path in ("", "sync/", "allow-local/", "export/"):
        assert alice_client.get(f"{CHANGELIST}{path}").status_code == 302


def import_table(client, table):
    upload = SimpleUploadedFile("images.csv", table.encode(), content_type="text/csv")
    preview = client.post(f"{CHANGELIST}import/", {"format": "0", "import_file": upload})
    text = preview.content.decode()
    form = preview.context.get("confirm_form")
    if form is None:
        return text
    return client.post(f"{CHANGELIST}process_import/", form.initial, follow=True).content.decode()


def test_a_table_adds_and_changes_rows_with_history(ada_client, catalogue):
    import_table(
        ada_client,
        "framework,version,architectures,reference\n"
        "Alpha,3.0.0,CUDA_BLACKWELL,lab/alpha-3.0.0-fixed\n"
        "Alpha,9.0,CUDA_AMPERE;CUDA_ADA,lab/alpha-9.0\n",
    )

    added = Image.objects.get(version="9.0")
    assert Image.objects.get(version="3.0.0").reference == "lab/alpha-3.0.0-fixed"
    assert added.architecture_list == ["CUDA_ADA", "CUDA_AMPERE"]
    assert (added.framework_slug, added.position, added.kind) == ("alpha", 6, "catalog")
    assert Event.objects.filter(verb="import", actor__username="ada").count() == 2
    assert Image.objects.count() == 7


def test_a_bad_row_of_a_table_imports_nothing(ada_client, catalogue):
    text = import_table(
        ada_client,
        "framework,version,architectures,reference\n"
        "Alpha,9.0,CUDA_ADA,lab/alpha-9.0\n"
        "Alpha,9.1,,Lab/Wrong\n",
    )

    assert "the list of architectures is empty" in text
    assert Image.objects.count() == 6


def test_an_exported_table_can_be_imported(ada_client, catalogue):
    text = ada_client.get(f"{CHANGELIST}export/").content.decode()

    assert text.splitlines()[0].startswith("framework,version,architectures,reference")
    assert "Alpha,2.1.0,CUDA_ADA;CUDA_AMPERE,lab/alpha-2.1.0-cuda11.8.0" in text
    import_table(ada_client, text)
    assert not Event.objects.filter(verb="import").exists()
