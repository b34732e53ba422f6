"""The rig itself must fail loudly where it cannot be built."""

from __future__ import annotations

from pathlib import Path

import pytest

from workspaces.tests.gpus.stub import build_stub


def test_a_machine_without_a_compiler_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="install gcc"):
        build_stub(tmp_path)
