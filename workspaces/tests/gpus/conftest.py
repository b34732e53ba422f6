"""Fixtures for the GPU tests: a machine whose NVIDIA driver is a stand-in."""

from __future__ import annotations

from pathlib import Path

import pynvml  # type: ignore[import-untyped, unused-ignore]
import pytest

from workspaces.tests.gpus.stub import VARIABLE, NvmlStub, build_stub


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile once for each test process."""
    return build_stub(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def nvml(nvml_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NvmlStub:
    """Put the stand-in under the binding, whatever library this process had loaded before."""
    stub = NvmlStub(nvml_library, tmp_path / "machine.txt")
    monkeypatch.setenv(VARIABLE, str(stub.machine))
    monkeypatch.setattr(pynvml, "nvmlLib", stub.handle)
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
    return stub
