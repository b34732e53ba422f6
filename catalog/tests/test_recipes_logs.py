"""The end of a build: causes in plain words, and logs without secrets."""

from __future__ import annotations

import time

import pytest

from catalog.recipes.failures import explain_failure
from catalog.recipes.masking import MASK, Masker

CAUSES = [
    ("no-such-package", "user", "nunpy", [
        "ERROR: Could not find a version that satisfies the requirement nunpy "
        "(from versions: none)",
        "ERROR: No matching distribution found for nunpy"]),
    ("no-such-version", "user", "numpy==99", [
        "ERROR: Could not find a version that satisfies the requirement numpy==99 "
        "(from versions: 1.0, 1.26.4, 2.1.0)",
        "ERROR: No matching distribution found for numpy==99"]),
    ("needs-other-python", "user", "needs Python >=3.12", [
        "ERROR: Package 'foo' requires a different Python: 3.10.12 not in '>=3.12'"]),
    ("needs-other-python", "user", "numpy==2.3.0 needs Python >=3.11", [
        "ERROR: Ignored the following versions that require a different python version: "
        "2.3.0 Requires-Python >=3.11; 2.3.1 Requires-Python >=3.11",
        "ERROR: Could not find a version that satisfies the requirement numpy==2.3.0 (from "
        "versions: 1.0, 2.2.6)", "ERROR: No matching distribution found for numpy==2.3.0"]),
    ("version-conflict", "user", "torch==2.3.0, but there is torch 2.7.1", [
        "ERROR: pip's dependency resolver does not currently take into account all the packages…",
        "xformers 0.0.27 requires torch==2.3.0, but you have torch 2.7.1 which is incompatible."]),
    ("version-conflict", "user", "a==1 and b==2", [
        "ERROR: Cannot install a==1 and b==2 because these package versions have conflicting "
        "dependencies.", "ERROR: ResolutionImpossible: for help visit …"]),
    ("version-conflict", "user", "CUDA", [
        "ERROR: Cannot install torch==1.0 and xformers==0.0.27 because these package versions have "
        "conflicting dependencies."]),
    ("missing-header", "user", "Python.h", [
        "  src/x.c:4:10: fatal error: Python.h: No such file or directory",
        "  error: command '/usr/bin/gcc' failed with exit code 1",
        "ERROR: Failed building wheel for x"]),
    ("missing-compiler", "user", "misses gcc", [
        "  error: command 'gcc' failed: No such file or directory",
        "ERROR: Failed building wheel for x"]),
    ("missing-compiler", "user", "pg_config", ["  Error: pg_config executable not found."]),
    ("missing-compiler", "user", "misses git", [
        "ERROR: Cannot find command 'git' - do you have 'git' installed and in your PATH?"]),
    ("compile-error", "user", "compiled", [
        "  error: subprocess-exited-with-error", "  exit code: 1",
        "ERROR: Failed to build installable wheels for some pyproject.toml based projects (x)"]),
    ("no-space", "engine", "space", [
        "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"]),
    ("network", "engine", "could not reach", [
        "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(': "
        "Failed to establish a new connection: [Errno -3] Temporary failure in name resolution')",
        "ERROR: Could not find a version that satisfies the requirement x (from versions: none)"]),
    ("network", "engine", "could not reach", [
        "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]"]),
    ("network", "engine", "could not reach", [
        "Err:1 http://example.org/debian bookworm InRelease",
        "  Temporary failure resolving 'example.org'", "E: Unable to locate package git"]),
    ("hash-mismatch", "user", "numpy==1.26.4", [
        "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have…",
        "    numpy==1.26.4 from https://example.org/numpy.whl (from -r /tmp/x (line 1)):",
        "        Expected sha256 00"]),
    ("hash-missing", "user", "every package needs one", [
        "ERROR: In --require-hashes mode, all requirements must have their versions pinned "
        "with ==. These do not:", "    six from https://example.org/six.whl"]),
    ("apt-no-such-package", "user", "libfoo-dev", ["E: Unable to locate package libfoo-dev"]),
    ("apt-no-such-package", "user", "mysql", ["E: Package 'mysql' has no installation candidate"]),
    ("apt-no-such-version", "user", "9.9", ["E: Version '9.9' for 'git' was not found"]),
    ("apt-expired", "image", "out of date", [
        "E: The repository 'http://example.org/debian buster Release' does not have a Release "
        "file."]),
    ("apt-expired", "image", "out of date", [
        "E: Failed to fetch http://example.org/x.deb  404  Not Found [IP: 192.0.2.1 80]"]),
    ("apt-conflict", "user", "cannot be together", [
        "The following packages have unmet dependencies:", " libx : Depends: liby",
        "E: Unable to correct problems, you have held broken packages."]),
    ("externally-managed", "image", "does not let pip", ["error: externally-managed-environment"]),
    ("no-pip", "image", "no Python 3 with pip", ["/usr/bin/python3: No module named pip"]),
    ("no-pip", "image", "no Python 3 with pip", ["/bin/sh: 1: python3: not found"]),
    ("not-permitted", "user", "may not do", ["mount: /x: Operation not permitted"]),
    ("no-such-command", "user", "no command foo", ["/bin/sh: 1: foo: not found"]),
]  # fmt: skip


@pytest.mark.parametrize(("code", "family", "words", "tail"), CAUSES)
def test_the_usual_causes_are_told_plainly(code, family, words, tail):
    found = explain_failure(
        exit_code=1, oom_killed=False, tail=["\x1b[31mCollecting\x1b[0m x", *tail], title="Jupyter"
    )

    assert (found.code, found.family) == (code, family)
    assert words in found.message
    assert found.hint
    assert "{" not in found.message + found.hint


@pytest.mark.parametrize(
    ("exit_code", "oom_killed", "tail", "code"),
    [
        (137, True, [], "out-of-memory"),
        (137, False, ["Killed"], "out-of-memory"),
        (1, False, ["MemoryError"], "out-of-memory"),
        (1, False, ["c++: fatal error: Killed signal terminated program cc1plus"], "out-of-memory"),
        (137, False, ["Installing"], "killed"),
        (3, False, ["something else"], "unknown"),
        (None, False, [], "unknown"),
    ],
)
def test_endings_without_a_word_are_told_apart(exit_code, oom_killed, tail, code):
    found = explain_failure(exit_code=exit_code, oom_killed=oom_killed, tail=tail, title="Own")

    assert found.code == code
    assert "Own" in found.message


def test_a_missing_header_names_the_system_package():
    found = explain_failure(
        exit_code=1,
        oom_killed=False,
        tail=["x.c:1: fatal error: ffi.h: No such file or directory"],
        title="x",
    )
    assert found.hint.startswith("Add libffi-dev to the system packages")


def test_the_newest_versions_are_named_when_one_is_missing():
    versions = ", ".join(f"1.{minor}" for minor in range(300))
    line = (
        f"ERROR: Could not find a version that satisfies the requirement x==9 (from {versions})"
    ).replace("from ", "from versions: ")

    found = explain_failure(exit_code=1, oom_killed=False, tail=[line], title="x")
    assert found.hint == "The newest there are: 1.295, 1.296, 1.297, 1.298, 1.299."

    found = explain_failure(exit_code=1, oom_killed=False, tail=[line[:900] + "…"], title="x")
    assert (found.code, found.hint) == ("no-such-version", "Look up which there are.")


def test_braces_and_secrets_in_a_log_do_no_harm():
    found = explain_failure(
        exit_code=1,
        oom_killed=False,
        tail=["ERROR: No matching distribution found for {title.__class__}"],
        title="{0}",
    )
    assert "{title.__class__}" in found.message

    found = explain_failure(
        exit_code=1,
        oom_killed=False,
        tail=["ERROR: No matching distribution found for x@https://me:hunter22@example.org/x"],
        title="x",
    )
    assert "hunter22" not in found.message


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        ("Looking in indexes: https://bob:hunter22@example.org/simple", "hunter22"),
        ("git clone https://x-access-token@example.org/a", "x-access-token"),
        ("> Authorization: Bearer abc.def.ghi", "abc.def.ghi"),
        ("Proxy-Authorization: Basic dXNlcjpwdw==", "dXNlcjpwdw=="),
        ("curl --password=hunter22 x", "hunter22"),
        ("login --token hunter22", "hunter22"),
        ('{"api_key": "hunter22"}', "hunter22"),
        ("export WANDB_API_KEY='hunter22 x'", "hunter22"),
        ("MY_SECRET=hunter22", "hunter22"),
        ("ghp_" + "a1" * 18, "a1a1"),
        ("hf_" + "a1" * 17, "a1a1"),
        ("glpat-" + "a1" * 10, "a1a1"),
        ("the campus key swordfish here", "swordfish"),
        ("two lines\nswordfish", "swordfish"),
    ],
)
def test_secrets_are_masked(line, secret):
    masked = Masker(["swordfish", "abc", ""]).mask(line)

    assert secret not in masked
    assert MASK in masked


def test_a_secret_at_the_place_of_a_cut_does_not_show_its_beginning():
    masker = Masker(["s3cr3t-of-the-site"])

    for length in range(15_970, 16_001):
        assert "s3cr" not in masker.mask("s3cr3t-of-the-site" * 800 + "x" * length)
        assert "s3cr" not in masker.mask("x" * length + "s3cr3t-of-the-site")


@pytest.mark.parametrize(
    "unit", ["a", "-", "eyJ-", "password", "--token ", "x://", "\x1b]", "a b "]
)
def test_no_line_makes_masking_or_explaining_slow(unit):
    line = unit * (40_000 // len(unit))
    begun = time.perf_counter()

    Masker(["swordfish"]).mask(line)
    explain_failure(exit_code=1, oom_killed=False, tail=[line] * 300, title="x")

    # A pattern that backtracks would need minutes; the bound is for a busy machine.
    assert time.perf_counter() - begun < 10


def test_the_rest_of_a_log_stays_readable():
    masker = Masker(["xy"])

    assert masker.mask("\x1b[32mok\x1b[0m\txy ") == "\x1b[32mok\x1b[0m\txy "
    assert masker.mask("a\x00b\x1b[2Kc\x1b]0;title\x07d\r\x08\u202e") == "abcd"
    assert masker.mask("Requires: tokenizers>=0.19") == "Requires: tokenizers>=0.19"
    assert len(masker.mask("x" * 10_000)) == 4000
    assert masker.mask("line 1\nline 2") == "line 1\nline 2"
