"""The usual causes of a failed build: how the log shows them, and the words for people. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

_GPU_PACKAGES = ("torch", "tensorflow", "jax", "nvidia-", "triton", "cuda", "cupy", "xformers")
# What a compiler misses → the apt package that has it.
_HEADERS = {
    "Python.h": "python3-dev",
    "ffi.h": "libffi-dev",
    "openssl/ssl.h": "libssl-dev",
    "openssl/opensslv.h": "libssl-dev",
    "zlib.h": "zlib1g-dev",
    "jpeglib.h": "libjpeg-dev",
    "png.h": "libpng-dev",
    "libxml/xmlversion.h": "libxml2-dev",
    "libpq-fe.h": "libpq-dev",
    "mpi.h": "libopenmpi-dev",
    "sndfile.h": "libsndfile1-dev",
    "portaudio.h": "portaudio19-dev",
    "hdf5.h": "libhdf5-dev",
    "mysql.h": "default-libmysqlclient-dev",
    "GL/gl.h": "libgl1-mesa-dev",
}
_TOOLS = {
    "pg_config": "libpq-dev",
    "mysql_config": "default-libmysqlclient-dev",
    "cmake": "cmake",
    "gfortran": "gfortran",
    "git": "git",
    "make": "make",
    "swig": "swig",
    "cargo": "cargo",
    "rustc": "rustc",
    "mpicc": "libopenmpi-dev",
    "pkg-config": "pkg-config",
}

Words = dict[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """One cause. Named groups of the pattern fill message and hint; `refine` may add to them."""

    code: str
    family: str
    pattern: re.Pattern[str]
    message: str
    hint: str
    refine: Callable[[Words], Words] | None = None


def _cause(
    code: str,
    family: str,
    pattern: str,
    message: str,
    hint: str,
    refine: Callable[[Words], Words] | None = None,
) -> Cause:
    return Cause(
        code=code,
        family=family,
        pattern=re.compile(pattern, re.MULTILINE),
        message=message,
        hint=hint,
        refine=refine,
    )


def _shorten_versions(words: Words) -> Words:
    """Keep the newest versions of pip's list; it names hundreds, oldest first."""
    versions = [version.strip() for version in words.get("versions", "").split(",")]
    known = [version for version in versions if version and version != "none"]
    newest = ", ".join(known[-5:])
    is_whole = bool(known and words["end"])  # a line that was cut says nothing about its end
    available = f"The newest there are: {newest}." if is_whole else "Look up which there are."
    return {**words, "available": available}


def _name_header(words: Words) -> Words:
    package = _HEADERS.get(words["header"], "")
    fix = f"Add {package} to the system packages" if package else "Add the library's -dev package"
    return {**words, "fix": fix}


def _name_tool(words: Words) -> Words:
    tool = words.get("tool") or words.get("other") or words.get("third") or "gcc"
    package = _TOOLS.get(tool, "build-essential")
    return {**words, "tool": tool, "package": package}


def _mention_gpu(words: Words) -> Words:
    both = f"{words.get('one', '')} {words.get('other', '')}".lower()
    gpu = any(name in both for name in _GPU_PACKAGES)
    advice = " The base brings it made for its CUDA: leave out its version, or choose another base."
    return {**words, "gpu": advice if gpu else ""}


CAUSES: tuple[Cause, ...] = (
    _cause(
        "no-space", "engine",
        r"No space left on device|Disk quota exceeded|You don't have enough free space",
        "“{title}” found no space left on the disk.",
        "Delete images you no longer need, or tell an admin.",
    ),
    _cause(
        "hash-mismatch", "user",
        r"THESE PACKAGES DO NOT MATCH THE HASHES(?:[^\n]*\n){1,4}?\s+(?P<one>[^\s(]+)"
        r"|THESE PACKAGES DO NOT MATCH THE HASHES",
        "A package is not the file that its hash in the requirements names: {one}",
        "Make the hashes anew (pip-compile --generate-hashes), or remove them.",
    ),
    _cause(
        "hash-missing", "user",
        r"In --require-hashes mode, all requirements must have[^\n]*\n?(?:\s+(?P<one>\S+))?",
        "With a hash at one package, every package needs one, those it depends on too.",
        "Make the file with pip-compile --generate-hashes, or remove all hashes.",
    ),
    _cause(
        "externally-managed", "image",
        r"externally-managed-environment",
        "The base does not let pip install into its Python.",
        "Choose another base, or tell an admin which one it was.",
    ),
    _cause(
        "no-pip", "image",
        r"No module named '?pip\b|python3: (?:command )?not found|exec:? \"?python3\"?: executable",
        "The base has no Python 3 with pip.",
        "Add python3 and python3-pip to the system packages, or choose another base.",
    ),
    _cause(
        "network", "engine",
        r"Temporary failure (?:in name )?resolv|Could not resolve|Name or service not known"
        r"|Failed to establish a new connection|Connection (?:timed out|refused|reset)"
        r"|Network is unreachable|CERTIFICATE_VERIFY_FAILED|SSLError|SSL: |ProxyError"
        r"|Tunnel connection failed|ReadTimeoutError|Could not connect to |Unable to connect to "
        r"|certificate verification failed|50[234] (?:Server Error|Bad Gateway|Service Unavail)",
        "“{title}” could not reach the place where packages come from.",
        "Build again in a few minutes; if it fails again, tell an admin (mirror or proxy).",
    ),
    _cause(
        "needs-other-python", "user",
        r"Package '?(?P<one>[^\s']+)'? requires a different Python: (?P<have>\S+) not in"
        r" '?(?P<want>[^'\n]+)",
        "{one} needs Python {want}; the base has {have}.",
        "Take another version of {one}, or a base with that Python.",
    ),
    _cause(
        "needs-other-python", "user",
        r"Ignored the following versions that require a different python version:[^\n]*"
        r"Requires-Python (?P<want>[^;\n]+)[^\n]*\n(?:[^\n]*\n){0,3}?"
        r"[^\n]*satisfies the requirement (?P<one>\S+)",
        "{one} needs Python {want}; the base has another.",
        "Take another version of it, or a base with that Python.",
    ),
    _cause(
        "version-conflict", "user",
        r"Cannot install (?P<one>[^\n]+?) because these package versions have conflict",
        "These packages want versions of others that cannot be together: {one}.{gpu}",
        "Loosen or remove one of the versions.",
        _mention_gpu,
    ),
    _cause(
        "no-such-version", "user",
        r"ERROR: Could not find a version that satisfies the requirement (?P<one>\S.*?)"
        r" \(from [^\n]*versions: (?!none\))(?P<versions>[^)\n]*)(?P<end>\)?)",
        "There is no version of {one} for this base.",
        "{available}",
        _shorten_versions,
    ),
    _cause(
        "no-such-package", "user",
        r"Could not find a version that satisfies the requirement (?P<one>\S.*?)"
        r"(?: \(from [^\n]*)?$|No matching distribution found for (?P<other>\S+)",
        "There is no package {name}, or none for this base's Python.",
        "Check the spelling of {name} and the Python versions it supports.",
        lambda words: {**words, "name": words["one"] or words["other"]},
    ),
    _cause(
        "apt-no-such-package", "user",
        r"E: (?:Unable to locate package (?P<one>\S+)|Package '(?P<other>[^']+)' has no install"
        r"|Couldn't find any package by [^']*'(?P<third>[^']+)')",
        "There is no system package {name} in this base's distribution.",
        "Check the spelling; another distribution may name it differently.",
        lambda words: {**words, "name": words["one"] or words["other"] or words["third"]},
    ),
    _cause(
        "apt-no-such-version", "user",
        r"E: Version '(?P<version>[^']+)' for '(?P<one>[^']+)' was not found",
        "There is no version {version} of the system package {one}.",
        "Leave the version out, or look up which one the distribution has.",
    ),
    _cause(
        "apt-conflict", "user",
        r"E: Unable to correct problems"
        r"|The following packages have unmet dependencies:\s+(?P<one>\S+)",
        "System packages cannot be together: {one}",
        "Remove one of them, or choose a newer base.",
    ),
    _cause(
        "apt-expired", "image",
        r"does not have a Release file|is not valid (?:yet|anymore)|404 +Not Found"
        r"|Release file [^\n]* expired|is not signed|NO_PUBKEY",
        "The package sources of the base are out of date.",
        "Choose a newer base, or tell an admin (the mirror may be incomplete).",
    ),
    _cause(
        "missing-header", "user",
        r"fatal error: (?P<header>[^:\s]+): No such file or directory",
        "A package is compiled here and misses {header}.",
        "{fix}, or take a version that comes ready-made.",
        _name_header,
    ),
    _cause(
        "missing-compiler", "user",
        r"command '?(?:x86_64-linux-gnu-|aarch64-linux-gnu-)?(?:gcc|g\+\+|cc|c\+\+|clang)'? failed:"
        r" (?:No such file|exit)|(?:unable to execute '?|error: )(?:gcc|g\+\+|cc)\b"
        r"|(?:No such file or directory: |Could not find |FileNotFoundError: .*)'?(?P<tool>"
        r"cmake|gfortran|git|make|swig|cargo|rustc|pg_config|mysql_config|mpicc|pkg-config)\b"
        r"|(?P<other>pg_config|mysql_config) executable not found"
        r"|Cannot find command '(?P<third>git)'|Failed to (?:find|locate) (?:a )?C compiler"
        r"|CMake must be installed|Unknown compiler\(s\)",
        "A package is compiled here and misses {tool}.",
        "Add {package} to the system packages, or take a version that comes ready-made.",
        _name_tool,
    ),
    _cause(
        "compile-error", "user",
        r"Failed(?: to build|building wheel for| building wheel for)[: ]+(?P<one>[^\n]+)"
        r"|error: subprocess-exited-with-error|metadata-generation-failed"
        r"|error: command .* failed with exit (?:code|status)",
        "A package could not be compiled for this base. {one}",
        "Take a version that comes ready-made for the base's Python; older versions often do not.",
    ),
    _cause(
        "version-conflict", "user",
        r"^(?P<one>[A-Za-z0-9._-]{1,100}) (?P<a>\S{1,100}) requires (?P<other>[^,\n]+),"
        r" but you have (?P<have>[^\n]+) which is incompatible",
        "{one} needs {other}, but there is {have}.{gpu}",
        "Loosen or remove one of the versions.",
        _mention_gpu,
    ),
    _cause(
        "not-permitted", "user",
        r"Permission denied|Operation not permitted|Read-only file system",
        "“{title}” tried something that a build may not do.",
        "Builds run without special rights; leave that step out.",
    ),
    _cause(
        "no-such-command", "user",
        r"(?:^|: )(?P<one>[^\s:]+): (?:command )?not found",
        "There is no command {one} in the base.",
        "Add the system package that has it.",
    ),
)  # fmt: skip
