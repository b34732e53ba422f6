"""Real builds on the private test engine: what a recipe asks for is what pip says is there.

Packages come from a wheelhouse of this machine. What is built is judged by `packaging`, a reader
of its own, on what `pip freeze` says inside the image.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from catalog.models import Build, BuildPolicy, Image, Recipe
from catalog.services.builds import request_build
from catalog.services.recipe_checks import check_recipe
from catalog.tests.wheelhouse import Wheelhouse, canonical
from ds01portal.engine.base import ContainerEngine
from ds01portal.limits import UNLIMITED
from ds01portal.models import Person
from ds01portal.services.quotas import set_limits

pytestmark = [pytest.mark.engine, pytest.mark.timeout(120)]

ROOT = Path(__file__).resolve().parents[2]
BASE = "ds01/demo-python:1"
PINNED = ("pinned", "1.0")
# What markers see inside the demo image.
READ_MARKERS = (
    "import json, os, platform, sys; print(json.dumps({'implementation_name': "
    "sys.implementation.name, 'os_name': os.name, 'platform_machine': platform.machine(), "
    "'platform_system': platform.system(), 'platform_python_implementation': "
    "platform.python_implementation(), 'python_full_version': platform.python_version(), "
    "'python_version': '%d.%d' % sys.version_info[:2], 'sys_platform': sys.platform}))"
)

# What is typed → what must be there beside what its specifiers say: name → version, None absent.
REQUIREMENTS: dict[str, tuple[str, dict[str, str | None]]] = {
    "range": ("alpha>=1.0,<2", {"alpha": "1.5"}),
    "redirection": ("alpha>1.0\nbeta<1.3", {"alpha": "2.1", "beta": "1.2.3"}),
    "blanks": ("  alpha   >=  1.1 ,  != 1.5 , < 2  ", {"alpha": "1.1"}),
    "parentheses": ("alpha (>=1.0,<2)", {"alpha": "1.5"}),
    "exact": ("alpha==1.0", {"alpha": "1.0"}),
    "zeros": ("alpha==1.0.0.0", {"alpha": "1.0"}),
    "arbitrary": ("alpha===1.5", {"alpha": "1.5"}),
    "arbitrary pre-release": ("nightly===1.0.dev3", {"nightly": "1.0.dev3"}),
    "wildcard": ("alpha==1.*", {"alpha": "1.5"}),
    "excluded wildcard": ("alpha!=2.*,!=1.5", {"alpha": "1.1"}),
    "excluded": ("beta!=1.3", {"beta": "1.2.3"}),
    "compatible": ("alpha~=1.0", {"alpha": "1.5"}),
    "compatible deep": ("beta~=1.2.0", {"beta": "1.2.3"}),
    "post release": ("beta==1.0.post1", {"beta": "1.0.post1"}),
    "between": ("beta>=1.0.post0,<1.2", {"beta": "1.0.post1"}),
    "epoch": ("eon>=1!0", {"eon": "1!1.0"}),
    "epoch exact": ("eon==1!0.5", {"eon": "1!0.5"}),
    "before the epoch": ("eon<1!0", {"eon": "7.0"}),
    "local exact": ("torchy==2.0.0+cu121", {"torchy": "2.0.0+cu121"}),
    "local taken for public": ("torchy==2.0.0", {"torchy": "2.0.0+cu121"}),
    "local range": ("torchy>=2.0,<3", {"torchy": "2.1.0+cu121"}),
    "pre-release asked for": ("nightly>=1.0a1", {"nightly": "1.0a1"}),
    "pre-release not asked for": ("nightly", {"nightly": "0.9"}),
    "all pre-releases": ("--pre\nalpha", {"alpha": "3.0rc1"}),
    "calendar": ("calver>=2023.10,!=2024.10.1", {"calver": "2024.2"}),
    "extra": ("delta[fast]", {"beta": "1.3", "alpha": None}),
    "extras": ("delta [ fast , plot ] == 1.0", {"beta": "1.3", "alpha": "1.5"}),
    "extra in capitals": ("DELTA[VERY_Fast]>=1", {"beta": "1.0"}),
    "names": ("Gamma_Ray<1\nZOPE.interface", {"gamma-ray": "0.9", "zope-interface": "6.0"}),
    "names with runs": ("gamma--.__ray==1.0", {"gamma-ray": "1.0"}),
    "marker false": ('alpha; sys_platform == "win32"\nbeta', {"alpha": None}),
    "marker true": ("alpha>=1 ; python_version >= '3' and os_name != \"nt\"", {"alpha": "2.1"}),
    "marker of two lines": (
        "alpha==1.0; python_version<'3'\nalpha==2.0; python_version>='3'",
        {"alpha": "2.0"},
    ),
    "marker nested": (
        "beta==1.0; (sys_platform=='linux' or os_name=='nt') and implementation_name!='pypy'",
        {"beta": "1.0"},
    ),
    "marker in": ('beta; platform_machine in "x86_64 aarch64 arm64"', {"beta": "1.3"}),
    "python of the file": ("old", {"old": "1.0"}),
    "dependency": ("eta==1.0", {"alpha": "1.1"}),
    "comments": (
        "# $(touch /escaped) `touch /escaped`; 'quoted\"\n"
        'alpha==1.5  # it\'s "$HOME" & > /escaped\n',
        {"alpha": "1.5"},
    ),
    "hash": ("pinned==1.0 \\\n    --hash=HASH", {"pinned": "1.0"}),
    "hashes and a comment": (
        "pinned==1.0 --hash=sha256:" + "0" * 64 + " --hash=HASH  # two",
        {"pinned": "1.0"},
    ),
}


def fill(house: Wheelhouse) -> str:
    """Put in what the recipes ask for; return the hash of the pinned one."""
    house.add_many("alpha", "1.0", "1.1", "1.5", "2.0", "2.1", "3.0rc1")
    house.add_many("beta", "1.0", "1.0.post1", "1.2.3", "1.3")
    house.add_many("Gamma.Ray", "0.9", "1.0")
    house.add_many("zope.interface", "5.0", "6.0")
    house.add_many("torchy", "2.0.0+cpu", "2.0.0+cu121", "2.1.0+cu121", "3.0")
    house.add_many("eon", "7.0", "1!0.5", "1!1.0")
    house.add_many("nightly", "0.9", "1.0.dev3", "1.0a1")
    house.add_many("calver", "2023.10", "2024.2", "2024.10.1")
    extras = {"fast": ["beta>=1"], "plot": ["alpha<2"], "very_fast": ["beta==1.0"]}
    house.add("delta", "1.0", extras=extras)
    house.add("old", "2.0", requires_python="<3")
    house.add("old", "1.0", requires_python=">=3")
    house.add("eta", "1.0", requires=["Alpha!=1.5,<2", "beta; python_version<'3'"])
    return house.add(*PINNED)


@pytest.fixture(scope="module")
def house() -> Iterator[Wheelhouse]:
    """Serve the packages."""
    with Wheelhouse() as house:
        yield house


@pytest.fixture(scope="module")
def pinned_hash(house: Wheelhouse) -> str:
    """Fill the wheelhouse once."""
    return fill(house)


@pytest.fixture
def builder(
    real_engine: ContainerEngine,
    demo_image: Image,
    alice: Person,
    house: Wheelhouse,
    pinned_hash: str,
    settings: Any,
) -> Iterator[Person]:
    """Alice, who may build as much as she likes; her images go afterwards."""
    settings.DS01_PIP_INDEX_URL = house.url
    BuildPolicy.objects.update(free_disk_floor_bytes=0, versions_kept=100)
    set_limits(subject=alice, values={"images": UNLIMITED, "disk": UNLIMITED}, actor=None)
    demo_image.engine_image_id = real_engine.inspect_image(BASE).id
    demo_image.save()
    yield alice
    remove_images(real_engine, f"ds01-{alice.uid}/")


def remove_images(engine: ContainerEngine, beginning: str) -> None:
    """Remove every tag that begins so, and what only they kept."""
    for image in engine.list_images():
        for tag in image.tags:
            if tag.startswith(beginning):
                engine.remove_image(tag)


def make_recipe(owner: Person, name: str, **content: Any) -> Recipe:
    """Make a recipe on the demo image with no layer but those named."""
    base = {"kind": "reference", "reference": BASE}
    return Recipe.objects.create(owner=owner, name=name, content={"base": base, **content})


def run_inside(reference: str, *command: str) -> str:
    """Run a command in a container of the image, without a network; return what it printed."""
    return run_docker("run", "--rm", "--network", "none", reference, *command)


def run_docker(*arguments: str) -> str:
    """Run the docker command on the test engine; return what it printed."""
    done = subprocess.run(
        ["docker", *arguments],
        env={**os.environ, "DOCKER_HOST": os.environ["DS01_TEST_DOCKER_HOST"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def read_freeze(text: str) -> dict[str, str]:
    """Return canonical name → version of what `pip freeze` printed."""
    pairs = (line.replace("===", "==").split("==", 1) for line in text.splitlines())
    return {canonical(name): version for name, version in pairs}


@pytest.fixture(scope="module")
def markers() -> dict[str, str]:
    """Read what markers mean inside the demo image."""
    found: dict[str, str] = json.loads(run_inside(BASE, "python3", "-c", READ_MARKERS))
    return {**found, "extra": ""}


def unmet(text: str, installed: dict[str, str], markers: dict[str, str]) -> list[str]:
    """Return the lines that the installed packages do not satisfy."""
    missed = []
    for line in text.replace("\\\n", " ").splitlines():
        code = re.split(r"(?:^|\s)(?:#|--hash|--pre)", line)[0].strip()
        if not code:
            continue
        wanted = Requirement(code)
        version = installed.get(canonical(wanted.name))
        if wanted.marker and not wanted.marker.evaluate(markers):
            continue
        if version is None or not wanted.specifier.contains(Version(version), prereleases=True):
            missed.append(f"{code}: {version}")
    return missed


Builder = Callable[..., Build]


@pytest.fixture
def build(builder: Person, run_due: Callable[[], int]) -> Builder:
    """Build a recipe to its end, and complain unless it is done."""

    def build_one(recipe: Recipe, **wishes: Any) -> Build:
        build = request_build(recipe=recipe, actor=recipe.owner, **wishes)
        run_due()
        build.refresh_from_db()
        log = "\n".join(row.text for row in build.output.all())
        assert build.state == Build.State.DONE, f"{build.error}\n{log[-3000:]}"
        return build

    return build_one


def read_packages(reference: str) -> dict[str, str]:
    """Return what pip says is in an image, where nothing that was typed has been run."""
    # Some of it would make that file.
    return read_freeze(
        run_inside(reference, "sh", "-c", "test ! -e /escaped && exec python3 -m pip freeze")
    )


def judge(
    case: str, text: str, installed: dict[str, str], markers: dict[str, str]
) -> tuple[list[str], dict[str, str | None]]:
    """Return the unmet lines and the versions that differ from the table's."""
    expected = REQUIREMENTS[case][1]
    others = {
        name: installed.get(name)
        for name, version in expected.items()
        if installed.get(name) != version
    }
    return unmet(text, installed, markers), others


@pytest.mark.timeout(300)
def test_what_forty_recipes_ask_for_is_what_pip_freeze_says_in_their_images(
    builder, build, pinned_hash, markers
):
    assert len(REQUIREMENTS) == 40
    recipe = make_recipe(builder, "thesis")
    results: dict[str, Future[dict[str, str]]] = {}
    dockerfiles: dict[str, set[str]] = {}
    texts = {case: text.replace("HASH", pinned_hash) for case, (text, _) in REQUIREMENTS.items()}
    with ThreadPoolExecutor(2) as readers:
        for case, text in texts.items():
            recipe.content = {**recipe.content, "requirements": text}
            recipe.save(update_fields=["content"])
            looks = [
                check_recipe(content=recipe.content, name="thesis", owner=builder, recipe=recipe)
                for _ in range(2)
            ]
            made = build(recipe)
            dockerfiles[case] = {*(look.dockerfile for look in looks), made.dockerfile}
            results[case] = readers.submit(read_packages, made.image.reference)

    verdicts = {
        case: judge(case, texts[case], result.result(), markers) for case, result in results.items()
    }
    assert {case: said for case, said in verdicts.items() if said != ([], {})} == {}
    assert {case for case, texts in dockerfiles.items() if len(texts) != 1} == set()


def test_system_packages_come_from_the_sites_mirror(builder, build, settings):
    """The rigs' engine has no way out of its networks: the build is let into the host's."""
    settings.DS01_APT_MIRROR = find_mirror()
    BuildPolicy.objects.update_or_create(pk=1, defaults={"host_network": True})
    recipe = make_recipe(builder, "with-less")
    recipe.content = {**recipe.content, "apt": ["less"]}
    recipe.save(update_fields=["content"])

    made = build(recipe)

    assert "less" in run_inside(made.image.reference, "sh", "-c", "less --version | head -1")
    layer = made.steps[0]["bytes"]
    assert layer < 10_000_000, "what apt-get leaves behind is no part of the image"
    log = "\n".join(made.output.values_list("text", flat=True))
    assert settings.DS01_APT_MIRROR in log
    history = run_docker("history", "--no-trunc", made.image.reference)
    assert settings.DS01_APT_MIRROR not in history + made.dockerfile


def find_mirror() -> str:
    """Return the address under which this machine's own packages are."""
    form = "$(REPO_URI) $(CREATED_BY)"
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", form], capture_output=True, text=True, check=True
    )
    addresses = [line.split()[0] for line in done.stdout.splitlines() if line.endswith(" Packages")]
    return re.sub(r"/(debian|ubuntu)/?$", "", addresses[0])


WRITE_ALL = """
import hashlib, json, sys
from catalog.recipes.content import RecipeContent
from catalog.recipes.dockerfile import write_dockerfile
from catalog.recipes.plan import BaseFacts, PackageLists, PlanPolicy, make_plan
texts = {}
for name, content in json.load(sys.stdin).items():
    plan = make_plan(
        RecipeContent.from_dict(content), name="thesis", owner_uid=1001,
        base=BaseFacts(reference="ds01/demo-python:1", packages={"pip": "23"}),
        lists=PackageLists(), policy=PlanPolicy(),
    )
    texts[name] = write_dockerfile(plan)
print(json.dumps(texts))
"""


def test_the_dockerfile_has_the_same_bytes_in_every_process(pinned_hash):
    base = {"kind": "reference", "reference": BASE}
    recipes = {
        case: {"base": base, "requirements": text.replace("HASH", pinned_hash)}
        for case, (text, _) in REQUIREMENTS.items()
    }
    recipes["many"] = {
        "base": base,
        "jupyter": {"choice": "own", "packages": ["beta[a,b,c]", "alpha>=1,<2,!=1.5"]},
        "use_case": "custom",
        "use_case_packages": ["delta[fast,plot,very_fast]"],
        "apt": ["git", "curl"],
        "environment": {"B": "2", "A": "1", "C": "$HOME \\"},
    }
    said = {
        subprocess.run(
            [sys.executable, "-c", WRITE_ALL],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            input=json.dumps(recipes),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(said) == 1
    assert len(json.loads(said.pop())) == 41
