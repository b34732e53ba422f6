"""Keep a container as an image, where an admin allows it: a new version without a recipe's steps.

Whatever is in the container outside of its mounts goes into the image, so who keeps one is
told what looks like a secret. Not in charge of: making it (`snapshot_making`), and a recipe of
what was installed, which is the better way (`installed`).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from django.db import transaction
from django.utils import timezone

from catalog.models import Build, BuildPolicy, Recipe
from catalog.recipes.names import check_image_name
from catalog.recipes.variables import looks_secret
from catalog.services.image_quota import check_free_disk, check_image_quota
from catalog.services.recipes import create_recipe
from ds01portal.engine import get_engine
from ds01portal.engine.base import ContainerEngine
from ds01portal.exceptions import Busy, EngineError, IllegalTransition, PolicyRefused
from ds01portal.models import Operation, Person
from ds01portal.services.events import announce_update, record_event
from ds01portal.services.operations import find_live_operation, request_operation
from workspaces.models import Container
from workspaces.services.installed import NEW, recipe_base

__all__ = ["KIND", "WARNING", "Secrets", "find_secrets", "snapshot_container"]

KIND = "snapshot"
DEADLINE = dt.timedelta(hours=1)
State = Container.State
KEEPABLE = (State.RUNNING, State.PAUSED, State.STOPPED)
WARNING = (
    "Everything in the container goes into the image, except /workspace, the home folder and "
    "other mounts: also keys, tokens and histories that lie elsewhere. Who may use the image "
    "can read them. A running container stands still meanwhile."
)
# Files that usually hold a secret. Found ones are named, never read and never removed.
SECRET_FILES = (
    *(".netrc", ".pgpass", ".git-credentials", ".pypirc", ".npmrc", ".env", "kaggle.json"),
    *("id_rsa", "id_ecdsa", "id_ed25519", "credentials", "credentials.json", "token"),
    *(".bash_history", ".python_history", "pip.conf"),
)
FIND_SECRETS = (
    "find / -xdev -type f \\( -name "
    + " -o -name ".join(f"'{name}'" for name in SECRET_FILES)
    + " \\) 2>/dev/null | head -n 20"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Secrets:
    """What looks like a secret inside: paths of files, names of variables. Never their values."""

    files: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Return all of them."""
        return (*self.files, *self.variables)


def snapshot_container(
    *, container: Container, name: str, actor: Person | None, request_key: str = ""
) -> Operation:
    """Ask for a new version of the image `name` made of the container as it is.

    An image of that name gets another version; else one is made. Raise PolicyRefused unless an
    admin allows snapshots, IllegalTransition for a container that is not on the engine, Busy,
    QuotaExceeded, and what a new recipe may be refused for.
    """
    policy = BuildPolicy.current()
    owner = _check_allowed(container, policy)
    check_image_name(name)
    check_free_disk(policy=policy)
    recipe = Recipe.objects.owned_by(owner).filter(name=name).first()
    if recipe is None:
        recipe = create_recipe(
            owner=owner,
            name=name,
            actor=actor,
            content={**NEW, "base": recipe_base(container=container)},
            description=f"Kept from the container {container.name}. Building it again makes an "
            "image without what was only installed there.",
        )
    with transaction.atomic():
        Person.objects.select_for_update(no_key=True).get(pk=owner.pk)
        check_image_quota(owner=owner)
        recipe.refresh_from_db()
        build = _write_build(container, recipe, actor)
        operation = request_operation(
            kind=KIND,
            owner=owner,
            actor=actor,
            params={"build": str(build.pk)},
            deadline=DEADLINE,
            **container.subject,
        )
        if operation.params.get("build") != str(build.pk):
            raise Busy(f"A snapshot of {container.name} is under way already.", operation=KIND)
        Build.objects.filter(pk=build.pk).update(operation=operation)
        _record(container, build, actor)
    return operation


def _check_allowed(container: Container, policy: BuildPolicy) -> Person:
    if not policy.snapshots:
        raise PolicyRefused(
            "Containers cannot be kept as images here.",
            hint="“What did I install?” makes a recipe of it instead, or ask an admin.",
            field="snapshots",
        )
    if container.owner is None or container.origin != Container.Origin.PORTAL:
        raise PolicyRefused(
            "Only containers that the portal launched can be kept as images.",
            hint="Launch one here.",
            field="origin",
        )
    if container.state not in KEEPABLE:
        raise IllegalTransition(
            f"{container.name} is {container.get_state_display().lower()}; it cannot be kept now.",
            hint="Wait until it runs or has stopped.",
            state=container.state,
            verb=KIND,
        )
    return container.owner


def _write_build(container: Container, recipe: Recipe, actor: Person | None) -> Build:
    """Write the attempt as a build that runs, so that nothing else makes a version meanwhile."""
    subject = recipe.subject
    live = find_live_operation(
        subject_kind=subject["subject_kind"], subject_id=subject["subject_id"]
    )
    if live is not None or Build.objects.live().filter(recipe=recipe).exists():
        raise Busy(
            f"{recipe.name} is busy: a version of it is being made.",
            hint="Wait until that has ended, or choose another name.",
        )
    return Build.objects.create(
        recipe=recipe,
        number=recipe.last_number + 1,
        content=recipe.content,
        dockerfile=f"# A snapshot of the container {container.name}; no Dockerfile makes it.\n",
        state=Build.State.RUNNING,
        steps=[],
        plan={
            "environment": {},
            "labels": {},
            "framework": container.framework,
            "version": container.version,
            "architecture": container.architecture,
        },
        base_reference=container.image_reference,
        base_engine_id=container.image_engine_id,
        actor=actor,
        started_at=timezone.now(),
    )


def _record(container: Container, build: Build, actor: Person | None) -> None:
    record_event(
        verb=KIND,
        **container.subject,
        owner=container.owner,
        actor=actor,
        after={"image": build.recipe.reference(build.number)},
        reason=WARNING,
    )
    announce_update(
        subject=f"container:{container.pk}",
        owner_id=container.owner_id,
        state=container.state,
        operation=KIND,
    )


def find_secrets(*, container: Container, engine: ContainerEngine | None = None) -> Secrets:
    """Return what looks like a secret in a container; files only while it runs.

    Best effort: an engine that does not answer gives nothing.
    """
    chosen = engine or get_engine()
    files: tuple[str, ...] = ()
    try:
        details = chosen.inspect_container(container.engine_name)
        if container.state == State.RUNNING:
            _code, output = chosen.run_command(
                container.engine_name, ("/bin/sh", "-c", FIND_SECRETS), timeout=30
            )
            lines = output[:10_000].decode("utf-8", "replace").splitlines()
            files = tuple(line for line in lines if line.startswith("/") and line.isprintable())
    except EngineError:
        return Secrets()
    variables = [name for name, value in details.environment.items() if value]
    return Secrets(files=files, variables=tuple(name for name in variables if looks_secret(name)))
