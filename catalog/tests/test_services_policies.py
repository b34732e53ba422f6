"""The build policy: which bases, whose shell lines, which lists."""

from __future__ import annotations

import pytest

from catalog.models import BuildPolicy, PackageList
from catalog.services.policies import (
    check_base_reference,
    load_package_lists,
    may_post_install,
    plan_policy,
    requirements_policy,
)
from ds01portal.exceptions import InvalidInput, PolicyRefused

pytestmark = pytest.mark.django_db

ALLOWED = [
    ("nvcr.io/nvidia/*", "nvcr.io/nvidia/pytorch:24.05-py3"),
    ("nvcr.io/nvidia/*", "nvcr.io/nvidia/deep/er"),
    ("nvcr.io/nvidia/*", f"nvcr.io/nvidia/pytorch@sha256:{'a' * 64}"),
    ("docker.io/pytorch/*", "pytorch/pytorch:2.5.1"),
    ("pytorch/*", "docker.io/pytorch/pytorch"),
    ("pytorch/*", "index.docker.io/pytorch/pytorch:2"),
    ("ubuntu", "ubuntu:24.04"),
    ("library/ubuntu", "docker.io/library/ubuntu:24.04"),
    ("nvcr.io/nvidia/pytorch:24.*", "nvcr.io/nvidia/pytorch:24.05-py3"),
    ("ubuntu:latest", "ubuntu"),
    ("registry.example.org:5000/lab/*", "registry.example.org:5000/lab/tools:1"),
    ("# campus\n\n  nvcr.io/nvidia/*  # the vendor's\n", "nvcr.io/nvidia/cuda:12"),
]
REFUSED = [
    ("", "ubuntu:24.04"),
    ("# nvcr.io/nvidia/*", "nvcr.io/nvidia/pytorch"),
    ("nvcr.io/nvidia/*", "nvcr.io/other/pytorch"),
    ("nvcr.io/nvidia/*", "nvcr.io.example.net/nvidia/pytorch"),
    ("nvcr.io/nvidia/*", "example.net/nvcr.io/nvidia/pytorch"),
    ("nvcr.io/nvidia/*", "nvidia/pytorch"),
    ("pytorch/*", "example.net/pytorch/pytorch"),
    ("ubuntu", "someone/ubuntu"),
    ("ubuntu", "example.net/ubuntu"),
    ("nvcr.io/nvidia/pytorch:24.*", "nvcr.io/nvidia/pytorch:23.01"),
    ("NVCR.IO/nvidia/*", "nvcr.io/nvidia/pytorch"),
]


@pytest.mark.parametrize(("patterns", "reference"), ALLOWED)
def test_a_base_that_a_pattern_fits_is_allowed(patterns, reference):
    check_base_reference(policy=BuildPolicy(registries=patterns), reference=reference)


@pytest.mark.parametrize(("patterns", "reference"), REFUSED)
def test_a_base_that_no_pattern_fits_is_refused_with_what_is_allowed(patterns, reference):
    with pytest.raises(PolicyRefused) as refused:
        check_base_reference(policy=BuildPolicy(registries=patterns), reference=reference)

    assert refused.value.fields["field"] == "base"
    for pattern in refused.value.fields["allowed"]:
        assert pattern in refused.value.hint


@pytest.mark.parametrize("reference", ["", "https://nvcr.io/x", "a b", "nvcr.io/nvidia/x\nRUN id"])
def test_what_is_no_reference_is_malformed_whatever_is_allowed(reference):
    with pytest.raises(InvalidInput):
        check_base_reference(policy=BuildPolicy(registries="*"), reference=reference)


def test_who_may_write_shell_lines(alice, admin_person):
    who = BuildPolicy.PostInstall
    answers = {
        rule: [
            may_post_install(policy=BuildPolicy(post_install=rule), person=person)
            for person in (alice, admin_person)
        ]
        for rule in who
    }

    assert answers == {
        who.NOBODY: [False, False],
        who.ADMINS: [False, True],
        who.EVERYBODY: [True, True],
    }


def test_the_rules_of_a_plan_are_the_admins(alice):
    strict = plan_policy(policy=BuildPolicy(), person=alice)
    policy = BuildPolicy(
        allow_urls=True, allow_index_options=True, allow_editable=True, post_install="everybody"
    )
    lenient = plan_policy(policy=policy, person=alice)

    assert not strict.allow_post_install
    assert strict.requirements == requirements_policy(policy=BuildPolicy())
    assert not strict.requirements.allow_urls
    assert lenient.allow_post_install
    rules = lenient.requirements
    assert (rules.allow_urls, rules.allow_index_options, rules.allow_editable) == (True,) * 3


def test_lists_are_those_that_admins_offer():
    PackageList.objects.filter(key="rl").update(active=False)
    PackageList.objects.filter(kind="jupyter").update(
        packages="jupyterlab>=4  # the new one\n\n# notebook\nipykernel\n"
    )

    lists = load_package_lists()

    assert lists.jupyter == ("jupyterlab>=4", "ipykernel")
    assert "scikit-learn" in lists.data_science
    assert "torch" in lists.base
    assert "rl" not in lists.use_cases
    assert lists.use_cases["ml"][0] == "xgboost"


def test_without_lists_nothing_is_offered(django_assert_num_queries):
    PackageList.objects.all().delete()

    with django_assert_num_queries(1):
        lists = load_package_lists()

    assert (lists.jupyter, lists.data_science, lists.base) == ((), (), ())
    assert not lists.use_cases
