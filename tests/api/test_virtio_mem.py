"""virtio-mem over HTTP: what the hypervisor asks for, what the driver came to, and its timer."""

import pytest

from tests.api.conftest import NR, Api, HostApi, refused

DEVICE = {"id": "vm0", "node": 1, "max": "1G", "block_size": "2M", "requested": "384M"}


@pytest.fixture
def host(api: Api) -> HostApi:
    """2 GiB, and a node without memory."""
    words = "hugetlb_free_vmemmap=on memhp_default_state=online_movable"
    return api.boot(nodes=[{"memory": "2G"}, {"memory": 0, "cpus": 1}], cmdline=words)


def test_a_device_is_added_asked_for_less_and_taken_away(host: HostApi) -> None:
    added = host.post("virtio-mem", DEVICE)
    assert (added.status_code, added.headers["location"]) == (201, f"{host.path}/virtio-mem/vm0")
    assert (added.json()["requested_bytes"], added.json()["plugged_bytes"]) == (384 << 20, 384 << 20)
    assert added.json()["steps"][0] == {"block": 32, "action": "plug", "bytes": 128 << 20, "errno": None}
    assert host.get("memory-blocks/33")["device"] == "vm0"
    assert host.get("memory-blocks/3")["device"] is None
    less = host.put("virtio-mem/vm0", {"requested": "256M"})
    assert (less.status_code, less.json()["plugged_bytes"], less.json()["errno"]) == (200, 256 << 20, None)
    shown = host.get("virtio-mem/vm0")
    assert (shown["blocks"], shown["mode"], shown["unit_bytes"]) == ([32, 33], "sub-block", 4 << 20)
    assert host.get("virtio-mem")["items"] == [shown]
    busy = refused(host.delete("virtio-mem/vm0"), 409, "EBUSY")
    assert busy["reason"] == "device-plugged"
    host.put("virtio-mem/vm0", {"requested": 0})
    assert host.delete("virtio-mem/vm0").json() == {"id": "vm0"}
    assert host.get("virtio-mem")["items"] == []
    assert host.get("audit")["ok"]


def test_what_the_driver_cannot_reach_is_an_answer_with_a_timer(host: HostApi) -> None:
    host.post("virtio-mem", DEVICE)
    host.put(NR, {"count": 61, "node": 1})
    answer = host.put("virtio-mem/vm0", {"requested": 0})
    assert answer.status_code == 200
    assert answer.json()["steps"][-1] == {"block": 32, "action": "unplug", "bytes": 0, "errno": "ENOMEM"}
    assert (answer.json()["errno"], answer.json()["retry"]) == ("ENOMEM", {"due": 50, "attempt": 0})
    again = host.post("virtio-mem/vm0/retry", {})
    assert again.json()["retry"] == {"due": 100, "attempt": 1}
    assert host.get("virtio-mem/vm0")["retry"] == {"due": 100, "attempt": 1}
    types = [event["type"] for event in host.get("events")["items"]]
    assert {"VirtioMemAdded", "VirtioMemRun"} <= set(types)


def test_requests_that_make_no_sense_change_nothing(host: HostApi) -> None:
    host.post("virtio-mem", DEVICE)
    with host.nothing_changes():
        taken = refused(host.post("virtio-mem", DEVICE), 409, "EEXIST")
        assert taken["reason"] == "device-exists"
        refused(host.post("virtio-mem", {**DEVICE, "id": "Not A Name"}), 422, "EINVAL")
        refused(host.post("virtio-mem", {**DEVICE, "id": "vm1", "block_size": "3M"}), 422, "EINVAL")
        refused(host.post("virtio-mem", {**DEVICE, "id": "vm1", "max": "100M"}), 422, "EINVAL")
        refused(host.post("virtio-mem", {**DEVICE, "id": "vm1", "requested": 5}), 422, "EINVAL")
        refused(host.put("virtio-mem/vm0", {"requested": "2G"}), 422, "EINVAL")
        refused(host.put("virtio-mem/vm9", {"requested": 0}), 404, "ENOENT")
        refused(host.ask("GET", "virtio-mem/vm9"), 404, "ENOENT")
        refused(host.delete("virtio-mem/vm9"), 404, "ENOENT")
        mine = refused(host.delete("memory-blocks/32"), 409, "EBUSY")
        assert mine["reason"] == "device-memory"
    rehearsed = host.put("virtio-mem/vm0", {"requested": 0}, params={"dry_run": "true"})
    assert rehearsed.json()["plugged_bytes"] == 0
    assert host.get("virtio-mem/vm0")["plugged_bytes"] == 384 << 20
