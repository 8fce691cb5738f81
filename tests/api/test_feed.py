"""The changes of all hosts, in one order, as a list and as they happen."""

import threading
from pathlib import Path

from hugepool.mm.boot.spec import HostSpec, NodeSpec
from hugepool.mm.commands import commands as c
from hugepool.service import Service, Terms
from hugepool.settings import Settings
from tests.api.conftest import Api, refused

SPEC = {"nodes": [{"memory": "1G"}]}


def test_changes_of_all_hosts_are_listed_in_their_order(fresh_api: Api) -> None:
    for name in ("a", "b"):
        fresh_api.post("/v1/hosts", {"name": name, "spec": SPEC})
    fresh_api.ask("PUT", "/v1/hosts/a/hugepages/2048kB/nr_hugepages", json={"count": 3})
    fresh_api.ask("PUT", "/v1/hosts/a/hugepages/2048kB/nr_hugepages?dry_run=true", json={"count": 9})
    fresh_api.ask("DELETE", "/v1/hosts/b")
    found = fresh_api.get("/v1/events").json()
    assert [(item["host"], item["revision"], item["type"]) for item in found["items"]] == [
        ("a", 1, "HostBooted"),
        ("b", 1, "HostBooted"),
        ("a", 2, "PoolResized"),
        ("b", 1, "HostDeleted"),
    ]
    page = fresh_api.get("/v1/events", params={"after": found["items"][1]["seq"], "limit": 1}).json()
    assert page["items"] == found["items"][2:3]
    assert page["next_after"] == found["items"][2]["seq"]
    refused(fresh_api.get("/v1/events", params={"after": -1}), 422, "EINVAL")


def test_who_waits_for_any_host_is_woken_by_a_change(tmp_path: Path) -> None:
    settings = Settings(database_url=f"sqlite:///{tmp_path / 'hugepool.db'}", events_poll_seconds=60)
    service = Service(settings)
    service.start()
    service.create("lab", HostSpec((NodeSpec(1 << 30),)), Terms())
    seen: list[str] = []
    begin = service.newest_change()

    def wait() -> None:
        seen.extend(change.type for change in service.wait_changes(begin, 50))

    waiting = threading.Thread(target=wait)
    waiting.start()
    service.execute("lab", c.SetMaxHugePages(9, 2), Terms())
    waiting.join(40)
    assert seen == ["PoolResized"]
    service.close()
