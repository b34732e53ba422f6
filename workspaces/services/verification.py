"""Success is what `inspect` shows afterwards, not an exit code.

A mismatch raises EngineError, which undoes the launch. Checked: it runs, as the right user,
with exactly the devices reserved for it, within its limits, privileges dropped, and on the
folders that were meant.
"""

from __future__ import annotations

from ds01portal.engine.base import ContainerDetails, ContainerEngine, Observed
from ds01portal.exceptions import EngineError, OutOfMemory
from workspaces.models import Container, Machine
from workspaces.services import assignments, folders
from workspaces.services.specs import network_name, passes_devices


def verify_container(
    *, container: Container, details: ContainerDetails, engine: ContainerEngine
) -> None:
    """Raise EngineError with the mismatch unless the container is what was asked for."""
    if details.state is not Observed.RUNNING:
        _explain_exit(details, engine)
    wrong = [what for what, good in _facts(container, details).items() if not good]
    mounts = {mount.target: mount.source for mount in details.mounts}
    assert container.owner is not None
    expected = {
        target: folders.identify_folder(source)
        for target, source in mounts.items()
        if target in ("/data", "/models")
    }
    expected["/workspace"] = folders.identify_workspace(
        person=container.owner, subfolder=container.spec.get("workspace", "")
    )
    wrong += [
        f"folder at {target}"
        for target in folders.find_swapped_mounts(pid=details.pid, mounts=expected)
    ]
    if mounts.get("/workspace") != container.workspace_path:
        wrong.append("workspace")
    if wrong:
        raise EngineError(
            "The container is not what was asked for, so it may not run.",
            hint="Tell an admin.",
            cause=f"differs: {', '.join(wrong)}",
            differs=wrong,
        )


def _facts(container: Container, details: ContainerDetails) -> dict[str, bool]:
    person = container.owner
    assert person is not None
    devices = assignments.held_devices(container=container)
    passed = passes_devices(devices, Machine.current())
    wanted = {device.uuid for device in devices} if passed else set()
    host = details.raw.get("HostConfig", {})
    visible = details.environment.get("NVIDIA_VISIBLE_DEVICES", "")
    return {
        "user": details.user == f"{person.uid}:{person.gid}",
        "devices": set(details.devices) == wanted and not details.all_devices,
        "visible devices": visible == "void" if not wanted else set(visible.split(",")) == wanted,
        "privileged": not host.get("Privileged", False),
        "capabilities": host.get("CapDrop") == ["ALL"] and not host.get("CapAdd"),
        "memory": details.memory == int(container.spec["memory"]),
        "cpus": abs(details.cpus - float(container.spec["cpus"])) < 0.01,
        "network": host.get("NetworkMode") == network_name(person),
    }


def _explain_exit(details: ContainerDetails, engine: ContainerEngine) -> None:
    if details.oom_killed:
        raise OutOfMemory(
            "The container ran out of memory while it started.", hint="Ask for more memory."
        )
    tail = engine.read_logs(details.id, tail=20).decode("utf-8", "replace")
    raise EngineError(
        f"The container stopped right after its start (exit code {details.exit_code}).",
        hint="The image may lack a shell. Choose another image or tell an admin.",
        cause=f"{details.error} {tail}".strip(),
    )
