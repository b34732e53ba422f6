"""The mounts of a container: workspace, home, shared folders, and who the person is inside."""

from __future__ import annotations

from ds01portal.engine.base import ContainerEngine, ImageDetails, Mount
from ds01portal.models import Person
from workspaces.models import Container
from workspaces.services import folders, identities


def prepare_mounts(
    *, container: Container, engine: ContainerEngine, image: ImageDetails
) -> tuple[Mount, ...]:
    """Make the folders and return the mounts; paths are stored on the container's row."""
    person = _owner(container)
    workspace = folders.ensure_workspace(
        person=person, subfolder=container.spec.get("workspace", "")
    )
    found = [Mount(source=workspace, target="/workspace")]
    paths = {}
    for folder in (container.data, container.models_folder):
        if folder is not None:
            path = folders.check_shared_folder(folder=folder)
            paths[f"{folder.purpose}_path"] = path
            found.append(Mount(source=path, target=folder.target, read_only=folder.read_only))
    if identities.is_engine_local():
        home = folders.ensure_home(container=container)
        found.append(Mount(source=str(home), target=identities.home_inside(person)))
        found += identities.identity_mounts(engine=engine, image=image, person=person)
    container.workspace_path = workspace
    container.spec = {**container.spec, **paths}
    container.save(update_fields=["workspace_path", "spec"])
    return tuple(found)


def put_identity(
    *, container: Container, engine: ContainerEngine, image: ImageDetails, engine_id: str
) -> None:
    """Put name, group and home into a container on an engine that does not see our files."""
    if not identities.is_engine_local():
        entries = identities.identity_entries(engine=engine, image=image, person=_owner(container))
        engine.put_files(engine_id, entries)


def _owner(container: Container) -> Person:
    assert container.owner is not None
    return container.owner
