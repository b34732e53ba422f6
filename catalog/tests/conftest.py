"""A small catalogue and a stand-in engine for the tests of the catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import Client

from catalog.models import Image
from catalog.services.sync import sync_catalog
from catalog.tests.engines import ImageEngine
from ds01portal.engine import reset_engine, set_engine
from ds01portal.models import Person

SAMPLE = b"""\
# A sample in the shape of AIME's file.

Alpha, 3.0.0, [CUDA_BLACKWELL], lab/alpha-3.0.0-cuda12.8.1
Alpha, 2.1.0-extra, [CUDA_ADA], lab/alpha-2.1.0-extra-cuda12.6.3
Alpha, 2.1.0, [CUDA_ADA;CUDA_AMPERE], lab/alpha-2.1.0-cuda11.8.0
Alpha, 2.0.0, [CUDA_AMPERE], lab/alpha-2.0.0-cuda11.7
Pytorch, 2.0.1, [ROCM6], lab/pytorch-2.0.1-rocm6.0
Tensorflow, 1.5.0, [CUDA_ADA], lab/tensorflow-1.5.0-cuda12.3
"""


@pytest.fixture(autouse=True)
def plain_settings(settings: pytest.FixtureRequest) -> None:
    """Start every test from the same settings, whatever the environment says."""
    settings.AIME_CATALOG = ""
    settings.MLC_ARCH = ""
    settings.DS01_REGISTRY_MIRROR = ""
    settings.DS01_CATALOG_FALLBACKS = {"pytorch": "pytorch/pytorch:2.5.1-cuda12.1-runtime"}


@pytest.fixture
def engine() -> Iterator[ImageEngine]:
    """Put a stand-in engine in the place of the real one."""
    stand_in = ImageEngine()
    set_engine(stand_in)
    yield stand_in
    reset_engine()


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """Return a catalogue file of our own."""
    path = tmp_path / "catalogue.repo"
    path.write_bytes(SAMPLE)
    return path


@pytest.fixture
def catalogue(db: None, sample: Path) -> list[Image]:
    """Load the sample and return its rows in order."""
    sync_catalog(source=sample)
    return list(Image.objects.in_order())


@pytest.fixture
def alice_client(alice: Person) -> Client:
    """Return a browser signed in as the student."""
    client = Client()
    client.force_login(alice)
    return client


@pytest.fixture
def ada_client(admin_person: Person) -> Client:
    """Return a browser signed in as the admin."""
    client = Client()
    client.force_login(admin_person)
    return client
