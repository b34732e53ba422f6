"""Make versions of custom images on an engine as a build does: one layer, tags, a row."""

from __future__ import annotations

import uuid
from typing import Any

from django.utils import timezone

from catalog.models import Image, Recipe
from catalog.services.build_layers import BUILDER_LABEL, LAYER_LABEL
from ds01portal.engine.base import ContainerEngine, ImageConfig, ImageDetails, StepSpec
from ds01portal.models import Person

BASE = "ds01/demo-python:1"


def make_recipe(owner: Person, name: str = "thesis", **values: Any) -> Recipe:
    """Make a recipe's row, whatever it says."""
    return Recipe.objects.create(
        owner=owner,
        name=name,
        content={"base": {"kind": "reference", "reference": BASE}},
        **values,
    )


def make_layer(engine: ContainerEngine, base: str = BASE, command: str = "") -> ImageDetails:
    """Make an untagged layer on a base."""
    name = f"ds01-build.{uuid.uuid4()}.1"
    spec = StepSpec(
        name=name,
        image=base,
        command=command or f"echo {name} > /{name}",
        labels={BUILDER_LABEL: name},
        network="none",
        cpus=1,
        memory=128 * 1024**2,
        memory_swap=128 * 1024**2,
        pids_limit=64,
    )
    result = engine.run_step(
        spec, environment={}, on_output=lambda _data: None, should_stop=lambda: False
    )
    assert result.exit_code == 0
    config = ImageConfig(
        environment={},
        labels={LAYER_LABEL: uuid.uuid4().hex, BUILDER_LABEL: ""},
        working_dir="/workspace",
        command=("/bin/bash",),
    )
    details = engine.commit_step(name, config=config, comment="test")
    engine.end_step(name)
    return details


def make_version(
    engine: ContainerEngine,
    recipe: Recipe,
    number: int,
    *,
    base: str = BASE,
    layers: list[dict[str, Any]] | None = None,
    command: str = "",
    **values: Any,
) -> Image:
    """Make the next version, with its tag and `latest`."""
    details = make_layer(engine, base, command)
    engine.tag_image(details.id, recipe.reference(number))
    engine.tag_image(details.id, recipe.reference("latest"))
    Recipe.objects.filter(pk=recipe.pk).update(last_number=number)
    now = timezone.now()
    return Image.objects.create(
        kind=Image.Kind.CUSTOM,
        owner=recipe.owner,
        recipe=recipe,
        number=number,
        framework="Python",
        framework_slug="python",
        version="3",
        reference=recipe.reference(number),
        base_reference=base,
        base_engine_id=engine.inspect_image(base).id,
        layers=layers if layers is not None else [{"id": details.id, "bytes": 1000}],
        engine_image_id=details.id,
        size_bytes=details.size,
        last_seen_on_engine_at=now,
        **{"last_used_at": now, **values},
    )
