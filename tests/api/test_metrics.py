"""What Prometheus is given: all hosts, one host as node_exporter names it, and where the hosts are."""

from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hugepool.fs import exporter
from hugepool.fs.figures import STATES
from tests.api.conftest import NR, Api, HostApi, refused, serving

Key = tuple[str, ...]


def samples(api: Api, path: str = "/metrics") -> dict[Key, float]:
    """Every sample: its name and labels, and its value.  No sample is there twice."""
    answer = api.get(path)
    assert answer.headers["content-type"].startswith("text/plain; version=")
    found = [
        ((sample.name, *(f"{k}={v}" for k, v in sorted(sample.labels.items()))), sample.value)
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    ]
    assert len(dict(found)) == len(found)
    return dict(found)


def test_metrics_show_pools_by_node_savings_queues_and_requests(fresh_api: Api) -> None:
    host = fresh_api.boot("1G", "1G")
    host.put(NR, {"count": 12})
    host.put(NR, {"count": 20, "node": 1})
    host.post("tasks", {"kind": "hugetlb", "count": 5, "touch": 3})
    fresh_api.get("/nowhere")
    found, pool = samples(fresh_api), host.counters()
    name, size = f"host={host.name}", "size=2048kB"
    for row in pool["nodes"]:
        node = f"node={row['node']}"
        free, nr = row["free_hugepages"], row["nr_hugepages"]
        assert found["hugepool_hugepages", name, node, size, "state=free"] == free
        assert found["hugepool_hugepages", name, node, size, "state=in_use"] == nr - free
        assert found["hugepool_hugepages", name, node, size, "state=surplus"] == 0
    assert found["hugepool_hugepages", name, "node=", size, "state=reserved"] == pool["resv_hugepages"] == 2
    assert found["hugepool_hugepages_max", name, size] == found["hugepool_hugepages_asked", name, size] == 26
    body = host.get()
    assert found["hugepool_vmemmap_saved_bytes", name] == body["vmemmap"]["bytes_saved"]
    tables = body["vmemmap"]["page_table_pages"] * 4096
    assert found["hugepool_vmemmap_page_table_bytes", name] == tables
    for node_row in body["nodes"]:
        node = f"node={node_row['node']}"
        assert found["hugepool_memory_bytes", name, "kind=free", node] == node_row["free_bytes"]
        assert found["hugepool_memory_bytes", name, "kind=total", node] == node_row["total_bytes"]
    line = next(row for row in host.ask("GET", "fs/proc/meminfo").text.splitlines() if "MemAvailable" in row)
    assert found["hugepool_memory_bytes", name, "kind=available", "node="] == int(line.split()[1]) * 1024
    assert found["hugepool_host_revision", name] == 4
    assert found["hugepool_host_info", name, "kernel=5.14"] == 1
    route = "route=/v1/hosts/{host}/hugepages/{size}/nr_hugepages"
    assert found["hugepool_http_requests_total", "method=PUT", route, "status=200"] == 2
    assert found["hugepool_http_requests_total", "method=GET", "route=none", "status=404"] == 1
    host.put(NR, {"count": 0})
    assert samples(fresh_api)["hugepool_hugepages_asked", name, size] == 0
    host.delete()
    assert not [key for key in samples(fresh_api) if name in key]


def test_every_state_of_a_host_is_a_series_and_those_it_is_in_are_1(fresh_api: Api) -> None:
    host = fresh_api.boot()
    host.put(NR, {"count": 40})
    host.put("faults/vmemmap-restore", {})
    host.put(NR, {"count": 0})
    found = samples(fresh_api)
    states = {state: found["hugepool_host_state", f"host={host.name}", f"state={state}"] for state in STATES}
    listed = fresh_api.get("/v1/hosts?view=summary").json()["items"][0]["states"]
    assert (
        {state for state, value in states.items() if value} == set(listed) == {"surplus-stuck", "fault-armed"}
    )
    assert found["hugepool_faults_armed", f"host={host.name}"] == 1
    assert found["hugepool_hugepages", f"host={host.name}", "node=0", "size=2048kB", "state=surplus"] == 40


def test_addresses_and_methods_of_strangers_make_no_new_series(fresh_api: Api) -> None:
    for i in range(20):
        fresh_api.get(f"/stranger-{i}")
        fresh_api.ask(f"ODD{i}", "/v1/hosts")
        fresh_api.get(f"/v1/hosts/stranger-{i}")
    requests = [key for key in samples(fresh_api) if key[0] == "hugepool_http_requests_total"]
    assert len(requests) < 6


@pytest.mark.parametrize(("most", "shown"), [(0, 0), (2, 2), (3, 3), (10, 3)])
def test_hosts_beyond_the_limit_are_counted(tmp_path: Path, most: int, shown: int) -> None:
    with serving(tmp_path, metrics_hosts=most) as api:
        for _ in range(3):
            api.boot()
        found = samples(api)
    assert found["hugepool_hosts", "included=yes"] == shown
    assert found["hugepool_hosts", "included=no"] == 3 - shown
    assert len({key[1] for key in found if key[0] == "hugepool_host_info"}) == shown


# -- one host ----------------------------------------------------------------------------------------------


def test_a_host_has_metrics_under_the_names_of_node_exporter(numa: HostApi) -> None:
    numa.put(NR, {"count": 21})
    found = samples(numa.api, f"{numa.path}/metrics")
    text = numa.ask("GET", "fs/proc/meminfo").text
    for line in text.splitlines():
        name, value, *unit = line.replace(":", " ").replace("(", "_").replace(")", "").split()
        assert found[f"node_memory_{name}" + ("_bytes" if unit else ""),] == int(value) * (
            1024 if unit else 1
        )
    assert found["node_memory_numa_HugePages_Total", "node=1"] == 10
    assert found["node_zoneinfo_nr_free_pages", "node=1", "zone=DMA32"] == numa.get()["zones"][-1]["free"]
    assert ("node_memory_numa_numa_hit_total", "node=0") in found
    assert ("node_vmstat_nr_free_pages",) in found


def test_lines_that_no_metric_is_known_for_are_left_out() -> None:
    zone = "Node 0, zone   Normal\n  pages free     12\n        min      3\n   odd      4\n      nr_free_pages 12\n"
    texts = {exporter.ZONEINFO: zone, exporter.MEMINFO: "Odd(x):  7 kB\nCount: 3\n"}
    found = exporter.families({exporter.BUDDYINFO: "", exporter.VMSTAT: "", **texts})
    values: dict[str, list[Any]] = {name: family.samples for name, family in found.items()}
    labels = {"node": "0", "zone": "Normal"}
    assert values == {
        "node_memory_Odd_x_bytes": [({}, 7168)],
        "node_memory_Count": [({}, 3)],
        "node_zoneinfo_min_pages": [(labels, 3)],
        "node_zoneinfo_nr_free_pages": [(labels, 12)],
    }


def test_no_host_has_no_metrics(api: Api) -> None:
    refused(api.get("/v1/hosts/nobody/metrics"), 404, "ENOENT")
    refused(api.get("/v1/hosts/nobody/metrics?collect=vmstat"), 422, "EINVAL")


# -- where the hosts are -----------------------------------------------------------------------------------


def test_discovery_has_every_host_at_the_address_that_was_asked(tmp_path: Path) -> None:
    with serving(tmp_path, metrics_hosts=1) as api:
        first, second = api.boot(kernel="6.1"), api.boot()
        first_labels = {"rack/row": "7", "tier": "a.b"}
        api.ask("PATCH", first.path, json={"labels": first_labels})
        one, two = api.get("/discovery/prometheus", headers={"Host": "localhost:8000"}).json()
        assert one == {
            "targets": ["localhost:8000"],
            "labels": {
                "instance": first.name,
                "__scheme__": "http",
                "__metrics_path__": f"{first.path}/metrics",
                "__meta_hugepool_host": first.name,
                "__meta_hugepool_kernel": "6.1",
                "__meta_hugepool_label_rack_row": "7",
                "__meta_hugepool_label_tier": "a.b",
            },
        }
        assert two["labels"]["instance"] == second.name
        assert samples(api, one["labels"]["__metrics_path__"])
        narrowed = api.get("/discovery/prometheus", params={"kernel": "6.1"}).json()
        assert [target["labels"]["instance"] for target in narrowed] == [first.name]


def test_discovery_refuses_a_filter_that_it_does_not_know(api: Api) -> None:
    body = refused(api.get("/discovery/prometheus?kernl=6.1"), 422, "EINVAL")
    assert body["did_you_mean"] == "kernel"
    refused(api.get("/discovery/prometheus?state=sad"), 422, "EINVAL")
