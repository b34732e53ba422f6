"""Hypothesis strategies that write recipes as a hostile but patient person would."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

NASTY = " \t'\"`$(){}[]<>|&;#!\\*?~%^=+-,.:/@_aZ0é漢\x07\u2028\u202e\n\r"
EVIL = [
    "$(touch canary)", "`touch canary`", "'; touch canary; '", '"; touch canary; "',
    "\\", "\\\\", "<<EOF", "\nRUN touch canary", "# syntax=evil/x", "# escape=`", "%s%n\\n",
    "&& touch canary", "| touch canary", "> canary", "${HOME}", "$HOME", "-r /etc/passwd",
    "--mount=type=secret", "'\"'\"'", "\\\nUSER 0", "FROM evil", "[\"sh\"]", "\x1b[2J",
]  # fmt: skip

nasty_text = st.one_of(
    st.text(NASTY, max_size=30),
    st.text(max_size=20),
    st.builds("".join, st.lists(st.sampled_from([*EVIL, " ", "a", "x=1"]), max_size=5)),
)
printable_text = nasty_text.map(lambda text: "".join(c for c in text if c.isprintable()))
# Pools instead of regular expressions: drawing is then cheap, and thousands of examples affordable.
package_names = st.one_of(
    st.sampled_from(["numpy", "Torch", "scikit-learn", "zope.interface", "a", "A_b", "x--y"]),
    st.text("aZ0._-", max_size=5).map(lambda text: f"p{text}k"),
)
clauses = st.one_of(
    st.sampled_from(
        [
            *("==1.0", "!=2", ">=1.2rc1", "<3", "<= 4.0.post1", ">0", "~=1.4", "== 1.*", "!=1.2.*"),
            *("==1!2.0", "==2.7.1+cu126", ">=1.dev0", "===2.0", "=== weird"),
        ]
    ),
    # Arbitrary equality takes nearly anything: the way in for a shell's characters.
    st.text("$(){}`'\"|&<>*?!%^~\\#a1.-+", min_size=1, max_size=10).map(lambda t: f"==={t}"),
)
markers = st.one_of(
    st.sampled_from(
        [
            "python_version < '3.12'",
            'sys_platform == "linux" and python_version >= "3.9"',
            "platform_machine != 'aarch64' or extra == 'x'",
        ]
    ),
    st.text(NASTY.replace("'", "").replace("\n", ""), max_size=15).map(
        lambda text: f"platform_version != '{text}'"
    ),
)
hashes = st.sampled_from([f"--hash=sha256:{digit * 64}" for digit in "0aF"])
gaps = st.sampled_from([" ", " \\\n    ", "  \\\r\n\t"])


def write_requirement(name: str, extras: list[str], wants: list[str], marker: str) -> str:
    """Return the text of one requirement, not always a good one."""
    inside = f"[{','.join(extras)}]" if extras else ""
    return f"{name}{inside} {','.join(wants)}{f' ; {marker}' if marker else ''}"


requirement_texts = st.builds(
    write_requirement,
    package_names,
    st.sampled_from([[], [], ["all"], ["a", "b-c"]]),
    st.lists(clauses, max_size=2),
    st.one_of(st.just(""), st.just(""), markers),
)
requirement_lines = st.one_of(
    requirement_texts,
    st.builds("{}{}{}".format, requirement_texts, gaps, hashes),
    st.builds("{}  # {}".format, requirement_texts, nasty_text),
    st.builds("{}{}{}  # {}".format, requirement_texts, gaps, hashes, nasty_text),
    nasty_text.map(lambda text: f"# {text}"),
    st.sampled_from(["", "--pre", "--only-binary :all:", "-r x.txt", "--prefer-binary"]),
    nasty_text,
)
requirement_documents = st.builds(
    lambda start, lines, newline: start + newline.join(lines),
    st.sampled_from(["", "\ufeff"]),
    st.lists(requirement_lines, max_size=6),
    st.sampled_from(["\n", "\r\n", "\n\n"]),
)
apt_names = st.one_of(
    st.sampled_from(["git", "g++", "libgl1", "python3.11-dev", "git=1:2.39.2-1.1", "zip-"]),
    st.text("a0+.-", min_size=1, max_size=8),
)
environments = st.dictionaries(
    st.sampled_from(["A", "HF_HOME", "_x", "LD_PRELOAD", "lower", "1A", "HTTP_PROXY"]),
    nasty_text,
    max_size=4,
)
contents = st.fixed_dictionaries(
    {
        "base": st.just({"kind": "reference", "reference": "lab/base:1"}),
        "jupyter": st.builds(
            lambda packages: {"choice": "own", "packages": packages},
            st.lists(requirement_texts, max_size=3),
        ),
        "requirements": requirement_documents,
        "apt": st.lists(st.one_of(apt_names, nasty_text), max_size=4),
        "environment": environments,
        "post_install": st.lists(nasty_text, max_size=4),
    }
)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), nasty_text),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(nasty_text, inner, max_size=3)
    ),
    max_leaves=6,
)
