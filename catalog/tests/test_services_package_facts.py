"""What is installed in images: read once, in a container that reaches nothing, and only believed
as far as it is well formed."""

from __future__ import annotations

import json

import pytest

from catalog.models import Image, ImagePackages
from catalog.packages import LIST_COMMAND, parse_listing
from catalog.services import package_facts
from catalog.services.package_facts import read_packages, read_wanted_packages, wanted_images
from catalog.tests.versions import BASE, make_recipe, make_version
from ds01portal.engine.base import Observed
from ds01portal.exceptions import EngineError, EngineUnreachable, MissingOnEngine

PIP = {
    "Typing_Extensions": ["4.12.2", False, False],
    "numpy": ["1.26.4", True, False],
    "mine": ["0.1", True, True],
}
OUTPUT = (
    f"DS01-PIP {json.dumps(PIP)}\n"
    "DS01-APT ii  git 1:2.39.5-0+deb12u2\n"
    "DS01-APT hi  libc6 2.36-9\n"
    "DS01-APT rc  gone 1.0\n"
    "DS01-MANUAL git\n"
    "DS01-END\n"
).encode()


@pytest.fixture(autouse=True)
def nothing_given_up(monkeypatch):
    monkeypatch.setattr(package_facts, "_given_up", set())


def test_names_are_written_in_one_spelling():
    found = parse_listing(OUTPUT)

    assert found.whole
    assert sorted(found.pip) == ["mine", "numpy", "typing-extensions"]
    assert found.pip["numpy"].requested
    assert not found.pip["typing-extensions"].requested
    assert found.pip["mine"].direct
    assert {name: one.version for name, one in found.apt.items()} == {
        "git": "1:2.39.5-0+deb12u2",
        "libc6": "2.36-9",
    }
    assert found.apt["git"].requested
    assert not found.apt["libc6"].requested


@pytest.mark.parametrize(
    "line",
    [
        "DS01-PIP not json",
        "DS01-PIP []",
        'DS01-PIP {"a; rm -rf /": ["1", true, false]}',
        'DS01-PIP {"a": "1"}',
        'DS01-PIP {"a": ["1; x", true, false]}',
        'DS01-PIP {"a": [1, true, false]}',
        f'DS01-PIP {{"{"a" * 300}": ["1", true, false]}}',
        "DS01-APT ii  UPPER 1.0",
        "DS01-APT ii  -o 1.0",
        "DS01-APT ii  name",
        "DS01-PIP " + "[" * 100_000,
    ],
)
def test_what_is_not_well_formed_is_left_out(line):
    found = parse_listing(f"{line}\nDS01-END\n".encode())

    assert found.whole
    assert found.pip == found.apt == {}


def test_an_answer_without_its_end_is_not_whole():
    assert not parse_listing(OUTPUT.replace(b"DS01-END", b"")).whole
    assert not parse_listing(b"\xff\x00").whole


@pytest.mark.django_db
def test_an_image_is_read_once_and_kept(fake_engine):
    fake_engine.script_step(match="DS01-END", output=[OUTPUT[:40], OUTPUT[40:]])
    image_id = fake_engine.inspect_image(BASE).id

    facts = read_packages(engine_image_id=image_id, reference=BASE)

    assert facts.pip == {"mine": "0.1", "numpy": "1.26.4", "typing-extensions": "4.12.2"}
    assert facts.apt["git"] == "1:2.39.5-0+deb12u2"
    read_packages(engine_image_id=image_id)
    (step,) = fake_engine.steps
    assert step.spec.network == "none"
    assert step.spec.user == "65534:65534"
    assert step.spec.command == LIST_COMMAND
    assert step.environment["PYTHONNOUSERSITE"] == "1"
    assert fake_engine.list_containers() == []


@pytest.mark.django_db
def test_an_image_that_makes_no_sense_is_not_believed(fake_engine):
    fake_engine.script_step(match="DS01-END", output=[b"boo\n"], exit_code=1)

    with pytest.raises(EngineError, match="could not be read"):
        read_packages(engine_image_id=fake_engine.inspect_image(BASE).id, reference=BASE)

    assert not ImagePackages.objects.exists()
    assert fake_engine.list_containers() == []


@pytest.mark.django_db
def test_an_image_that_never_stops_talking_is_ended(fake_engine, monkeypatch):
    monkeypatch.setattr(package_facts, "MOST_OUTPUT", 1000)
    fake_engine.script_step(match="DS01-END", output=[b"x" * 400] * 50)

    with pytest.raises(EngineError):
        read_packages(engine_image_id=fake_engine.inspect_image(BASE).id)


@pytest.mark.django_db
def test_what_people_build_on_is_read_first(fake_engine, alice, demo_image):
    fake_engine.script_step(match="DS01-END", output=[OUTPUT])
    base_id = fake_engine.inspect_image(BASE).id
    Image.objects.filter(pk=demo_image.pk).update(engine_image_id=base_id)
    other = Image.objects.create(
        kind="local",
        framework="A",
        version="1",
        reference="lab/a:1",
        engine_image_id=fake_engine.add_image("lab/a:1"),
    )
    mine = make_version(fake_engine, make_recipe(alice), 1)

    assert [image.pk for image in wanted_images()] == [demo_image.pk, mine.pk, other.pk]
    assert read_wanted_packages() == 1
    assert ImagePackages.objects.get().pk == base_id
    assert read_wanted_packages(limit=9) == 2
    assert wanted_images() == []


@pytest.mark.django_db
def test_one_that_cannot_be_read_does_not_hold_up_the_others(fake_engine, demo_image):
    Image.objects.filter(pk=demo_image.pk).update(engine_image_id="sha256:gone")
    fake_engine.script_step(match="DS01-END", output=[b"nonsense"])
    broken = Image.objects.create(
        kind="local",
        framework="A",
        version="1",
        reference="lab/a:1",
        engine_image_id=fake_engine.add_image("lab/a:1"),
    )

    assert read_wanted_packages(limit=9) == 0

    assert wanted_images() == []
    assert broken.engine_image_id in package_facts._given_up


@pytest.mark.django_db
def test_an_engine_that_is_away_says_nothing_about_an_image(fake_engine, demo_image):
    fake_engine.go_down()

    with pytest.raises(EngineUnreachable):
        read_wanted_packages()

    assert [image.pk for image in wanted_images()] == [demo_image.pk]


@pytest.mark.django_db
@pytest.mark.engine
def test_a_real_image_tells_its_packages(real_engine, alice):
    version = make_version(
        real_engine,
        make_recipe(alice, "packed"),
        1,
        command="set -e; d=$(python3 -c 'import site; print(site.getsitepackages()[0])'); "
        'mkdir -p "$d/Ds01_Sample-1.5.dist-info"; '
        "printf 'Metadata-Version: 2.1\\nName: Ds01_Sample\\nVersion: 1.5\\n' "
        '> "$d/Ds01_Sample-1.5.dist-info/METADATA"',
    )
    try:
        facts = read_packages(engine_image_id=version.engine_image_id, reference=version.reference)
        assert facts.pip["ds01-sample"] == "1.5"
        assert len(facts.apt) > 20
        assert facts.apt["bash"]
        states = [one.state for one in real_engine.list_containers() if "facts" in one.name]
        assert Observed.RUNNING not in states
        assert states == []
        tiny = real_engine.inspect_image("ds01/tiny:1")
        assert read_packages(engine_image_id=tiny.id).pip == {}
    finally:
        real_engine.remove_image(version.reference)
        real_engine.remove_image("ds01-200001/packed:latest")
    with pytest.raises(MissingOnEngine):
        read_packages(engine_image_id="sha256:" + "0" * 64)
