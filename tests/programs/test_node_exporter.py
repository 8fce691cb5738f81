"""``prometheus-node-exporter``, unmodified: what it publishes of a host is what the service says of it."""

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.docs.server import free_port
from tests.mirror.helpers import PATIENCE_SECONDS, Lab, mounting, run, skip_without_fuse
from tests.programs.running import fields_kb, skip_without

COLLECTORS = ("buddyinfo", "meminfo", "meminfo_numa", "vmstat", "zoneinfo")
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@contextmanager
def exporting(tree: Path, log: Path) -> Iterator[str]:
    """The address of a running exporter; ended, by its id, with the block."""
    port = free_port()
    command = [
        "prometheus-node-exporter",
        f"--path.procfs={tree / 'proc'}",
        f"--path.sysfs={tree / 'sys'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--collector.disable-defaults",
        *(f"--collector.{name}" for name in COLLECTORS),
        "--collector.vmstat.fields=.*",
    ]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
    try:
        yield f"http://127.0.0.1:{port}/metrics"
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def scrape(url: str) -> Samples:
    """All samples, once the exporter listens."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as answer:
                text = answer.read().decode()
            break
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    families = text_string_to_metric_families(text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


@pytest.fixture(params=["export", "mount"])
def samples(request: pytest.FixtureRequest, lab: Lab, tmp_path: Path) -> Iterator[Samples]:
    """What the exporter publishes of a host with huge pages, some of them in use, and a block that is offline."""
    skip_without("prometheus-node-exporter")
    lab.client.resize(lab.name, "2048kB", 21)
    lab.client.start_task(lab.name, {"kind": "hugetlb", "size": "2048kB", "count": 4, "touch": 3})
    lab.client.start_task(lab.name, {"kind": "anon", "memory": "50M"})
    lab.client.set_block_state(lab.name, 12, "offline")
    tree = tmp_path / "tree"
    if request.param == "export":
        assert run(lab.client.url, "export", lab.name, str(tree)).returncode == 0
        with exporting(tree, tmp_path / "log") as url:
            yield scrape(url)
        return
    skip_without_fuse()
    tree.mkdir()
    with mounting(lab, tree), exporting(tree, tmp_path / "log") as url:
        yield scrape(url)


def value(samples: Samples, name: str, **labels: object) -> int:
    found = samples[name, frozenset((key, str(label)) for key, label in labels.items())]
    assert found == int(found)
    return int(found)


def test_every_collector_succeeds(samples: Samples) -> None:
    for name in COLLECTORS:
        assert value(samples, "node_scrape_collector_success", collector=name) == 1


def test_memory_and_the_pool_are_as_the_service_says(samples: Samples, lab: Lab) -> None:
    memory, pool = lab.client.host(lab.name)["memory"], lab.pool()
    assert value(samples, "node_memory_MemTotal_bytes") == memory["total_bytes"]
    assert value(samples, "node_memory_MemFree_bytes") == memory["free_bytes"]
    for name, counter in (("Total", "nr"), ("Free", "free"), ("Rsvd", "resv"), ("Surp", "surplus")):
        assert value(samples, f"node_memory_HugePages_{name}") == pool[f"{counter}_hugepages"]
    assert value(samples, "node_memory_HugePages_Free") == 18
    assert value(samples, "node_memory_Hugepagesize_bytes") == 2 << 20
    assert value(samples, "node_vmstat_nr_free_pages") == memory["free_pages"]


def test_every_line_of_meminfo_is_taken_over(samples: Samples, lab: Lab) -> None:
    text = lab.read("/proc/meminfo")
    for line in text.splitlines():
        name, number, *unit = line.replace(":", " ").split()
        metric = "node_memory_" + name.replace("(", "_").replace(")", "") + ("_bytes" if unit else "")
        assert value(samples, metric) == int(number) * (1024 if unit else 1)


def test_every_line_of_a_node_s_meminfo_and_numastat_is_taken_over(samples: Samples, lab: Lab) -> None:
    for nid in (0, 1):
        folder = f"/sys/devices/system/node/node{nid}"
        text = lab.read(f"{folder}/meminfo")
        for name, kb in fields_kb(text).items():
            unit = 1 if name.startswith("HugePages_") else 1024
            metric = "node_memory_numa_" + name.replace("(", "_").replace(")", "")
            assert value(samples, metric, node=nid) == kb * unit
        for line in lab.read(f"{folder}/numastat").splitlines():
            name, number = line.split()
            assert value(samples, f"node_memory_numa_{name}_total", node=nid) == int(number)


def test_every_counter_of_vmstat_is_taken_over(samples: Samples, lab: Lab) -> None:
    for line in lab.read("/proc/vmstat").splitlines():
        name, number = line.split()
        assert value(samples, f"node_vmstat_{name}") == int(number)


def test_the_service_s_own_metrics_of_a_host_are_the_same(samples: Samples, lab: Lab) -> None:
    """Those of the exporter itself (its Go, its process, how its collectors fared) left out."""
    text = lab.client.request("GET", f"/v1/hosts/{lab.name}/metrics").text
    ours = {
        (s.name, frozenset(s.labels.items())): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }
    own = ("node_scrape_", "node_exporter_", "go_", "process_", "promhttp_")
    assert ours == {key: value for key, value in samples.items() if not key[0].startswith(own)}


def test_zones_and_their_free_lists_are_as_the_service_says(samples: Samples, lab: Lab) -> None:
    zones = [zone for zone in lab.client.host(lab.name)["zones"] if zone["present"]]
    assert [(zone["node"], zone["name"]) for zone in zones] == [(0, "DMA"), (0, "DMA32"), (1, "DMA32")]
    for zone in zones:
        labels = {"node": zone["node"], "zone": zone["name"]}
        for name in ("min", "low", "high", "spanned", "present", "managed"):
            assert value(samples, f"node_zoneinfo_{name}_pages", **labels) == zone[name]
        assert value(samples, "node_zoneinfo_nr_free_pages", **labels) == zone["free"]
        blocks = [value(samples, "node_buddyinfo_blocks", size=order, **labels) for order in range(11)]
        assert sum(count << order for order, count in enumerate(blocks)) == zone["free"]
