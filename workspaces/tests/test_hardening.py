"""The golden test: what `inspect` shows of a launched container, item by item.

The items are those of the CIS Docker Benchmark 1.6, section 5, that can be read off a
container. Documented exception: the root file system is writable (students install things).
"""

from __future__ import annotations

import pytest

from ds01portal.engine.base import ContainerDetails

pytestmark = [pytest.mark.engine, pytest.mark.django_db]

HOST = "host"


@pytest.fixture(params=[0, 2], ids=["without GPU", "with two devices"])
def inspected(request, real_portal, alice, launch):
    """A container launched on the real engine, as the engine shows it."""
    container = launch(alice, f"golden{request.param}", devices=request.param)
    assert container.state == "running", container.error
    return container, real_portal.inspect_container(container.engine_name)


def test_privileges_are_dropped(inspected):
    host = inspected[1].raw["HostConfig"]
    assert host["Privileged"] is False  # 5.5
    assert host["CapDrop"] == ["ALL"]  # 5.4
    assert not host["CapAdd"]
    assert host["SecurityOpt"] == ["no-new-privileges"]  # 5.26, and 5.22: default seccomp
    assert inspected[1].user == "200001:200001"  # never root


def test_no_namespace_is_the_hosts(inspected):
    host = inspected[1].raw["HostConfig"]
    assert host["NetworkMode"] == "ds01-200001"  # 5.10
    assert host["PidMode"] != HOST  # 5.16
    assert host["IpcMode"] == "private"  # 5.17
    assert host["UTSMode"] != HOST  # 5.21
    assert host["UsernsMode"] != HOST  # 5.31


def test_limits_are_set_at_creation(inspected):
    host = inspected[1].raw["HostConfig"]
    spec = inspected[0].spec
    assert host["Memory"] == spec["memory"] > 0  # 5.11
    assert host["MemorySwap"] == spec["memory"] + spec["swap"]
    assert host["NanoCpus"] == spec["cpus"] * 1e9 > 0  # 5.12
    assert host["PidsLimit"] == spec["pids"] == 4096  # 5.29
    assert host["ShmSize"] == spec["shm"]
    ulimits = {entry["Name"]: (entry["Soft"], entry["Hard"]) for entry in host["Ulimits"]}
    assert ulimits["stack"] == (67_108_864, 67_108_864)
    allowed = "memlock" in ulimits or any("memlock" in note for note in inspected[0].notes)
    assert allowed, "memlock is neither set nor its absence said"


def test_mounts_are_only_the_allowed_ones(inspected):
    details: ContainerDetails = inspected[1]
    mounts = {mount.target: mount for mount in details.mounts}
    assert set(mounts) == {"/workspace", "/home/alice", "/etc/passwd", "/etc/group"}  # 5.6
    assert mounts["/etc/passwd"].read_only
    assert mounts["/etc/group"].read_only
    assert not any("docker.sock" in mount.source for mount in details.mounts)  # 5.32
    assert not details.raw["HostConfig"]["VolumesFrom"]


def test_no_port_no_device_no_restart(inspected):
    host = inspected[1].raw["HostConfig"]
    assert not host["PortBindings"]  # 5.14
    assert host["PublishAllPorts"] is False
    assert not host["Devices"]  # 5.18
    assert host["RestartPolicy"]["Name"] in ("", "no")  # 5.15
    assert host["Init"] is True
    assert inspected[1].raw["Config"]["Healthcheck"] == {"Test": ["NONE"]}


def test_devices_are_exactly_the_reserved_ones(inspected):
    container, details = inspected
    requests = details.raw["HostConfig"]["DeviceRequests"] or []
    wanted = container.spec["devices"]
    if not wanted:
        assert requests == []
        assert details.environment["NVIDIA_VISIBLE_DEVICES"] == "void"
        return
    assert len(wanted) == 2
    assert [set(request["DeviceIDs"]) for request in requests] == [set(wanted)]
    assert details.environment["NVIDIA_VISIBLE_DEVICES"].split(",") == wanted
    assert not details.all_devices


def test_the_main_process_sees_the_same_devices(inspected, real_portal):
    container = inspected[0]
    _code, out = real_portal.run_command(
        container.engine_name, ("sh", "-c", "tr '\\0' '\\n' </proc/1/environ")
    )
    seen = dict(line.split("=", 1) for line in out.decode().splitlines() if "=" in line)
    assert seen["NVIDIA_VISIBLE_DEVICES"] == (",".join(container.spec["devices"]) or "void")


def test_no_label_has_a_comma_and_the_contract_is_complete(inspected):
    labels = inspected[1].labels
    assert not [key for key, value in labels.items() if "," in value]
    assert labels["aime.mlc"] == labels["aime.mlc.USER"] == "alice"
    assert labels["aime.mlc.NAME"] == inspected[0].name
    assert labels["aime.mlc.MLC_VERSION"] == "4"
    assert labels["aime.mlc.WORK_MOUNT"] == inspected[0].workspace_path
    assert labels["aime.mlc.DATA_MOUNT"] == labels["aime.mlc.MODELS_MOUNT"] == "-"
    assert labels["aime.mlc.FRAMEWORK"] == "Python-3"
    assert labels["aime.mlc.DS01_MANAGED"] == "true"


def test_the_person_has_a_name_a_home_and_writes_own_files(inspected, real_portal):
    container = inspected[0]
    code, out = real_portal.run_command(
        container.engine_name,
        ("sh", "-c", "id -un; id -u; pwd; touch /workspace/made ~/made && stat -c %u ~ /workspace"),
    )
    assert code == 0, out
    assert out.decode().split() == ["alice", "200001", "/workspace", "200001", "200001"]


def test_nobody_inside_becomes_root(inspected, real_portal):
    _code, out = real_portal.run_command(
        inspected[0].engine_name,
        ("sh", "-c", "grep -E 'NoNewPrivs|CapBnd|CapEff' /proc/self/status"),
    )
    assert out.decode().split() == ["CapEff:", "0" * 16, "CapBnd:", "0" * 16, "NoNewPrivs:", "1"]


def test_the_shared_image_stays_when_the_container_goes(real_portal, alice, launch, run_due):
    from workspaces.services import containers

    container = launch(alice, "tagged")
    tag = f"ds01/demo-python:tagged._.{alice.uid}"
    assert real_portal.inspect_container(container.engine_name).image == tag

    containers.remove_container(container=container, actor=alice)
    run_due()

    tags = {tag for image in real_portal.list_images() for tag in image.tags}
    assert tag not in tags
    assert "ds01/demo-python:1" in tags
