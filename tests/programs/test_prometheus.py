"""``prometheus`` and ``promtool``, unmodified, with the files of docker/monitoring: scrapes, alerts, the board.

The service wants a token and knows more hosts than /metrics may show, and its hosts are in the states that the alerts
are about.
"""

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from hugepool.access import Caller, Role, line_of, new_token
from hugepool.client import Client, Refused
from hugepool.harness.server import Server, serving
from tests.docs.console import ROOT
from tests.docs.server import free_port
from tests.programs.running import skip_without

FILES = ROOT / "docker" / "monitoring"
BOARD = json.loads((FILES / "grafana" / "boards" / "hugepool.json").read_text())
ALERTS = yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"][0]["rules"]
QUERIES = [
    (panel["title"], target["expr"]) for panel in BOARD["panels"] for target in panel.get("targets", ())
]
PATIENCE_SECONDS = 60
SCRAPE_SECONDS = 1
SHOWN = 6  # hosts at /metrics
TOKEN, READER = new_token(), new_token()
# Alerts by the host that is in the state; the other hosts are not.
HOSTS = {
    "HugepoolPoolShort": "a-short",
    "HugepoolSurplusStuck": "b-stuck",
    "HugepoolFaultArmed": "b-stuck",
    "HugepoolNetSavingNegative": "c-costs",
    "HugepoolDeferredFreesWait": "d-waits",
    "HugepoolNodeFull": "e-full",
}
HEALTHY, LEFT_OUT = "f-healthy", "z-left-out"


def make_hosts(client: Client) -> None:
    """Hosts in the states of the alerts."""
    spec = {"kernel": "6.1", "cmdline": "hugetlb_free_vmemmap=on"}
    for name in sorted({*HOSTS.values(), HEALTHY, LEFT_OUT}):
        client.create_host(name, {**spec, "nodes": [{"memory": "4G"}, {"memory": "4G"}]})
    client.change("PATCH", f"hosts/{HEALTHY}", {"labels": {"rack/row": "7"}})
    client.resize(HEALTHY, "2048kB", 64)
    client.resize("a-short", "2048kB", 5000)
    client.resize("b-stuck", "2048kB", 64)
    client.set_fault("b-stuck", "vmemmap-restore", {"probability": 100, "times": -1})
    with pytest.raises(Refused, match="could not be freed"):
        client.resize("b-stuck", "2048kB", 0)
    client.resize("c-costs", "2048kB", 64)
    client.resize("c-costs", "2048kB", 0)
    client.change("PUT", "hosts/d-waits/deferred-frees", {"mode": "manual"})
    client.overcommit("d-waits", "2048kB", 4)
    task = client.start_task("d-waits", {"kind": "hugetlb", "size": "2048kB", "count": 4, "touch": 4})
    client.exit_task("d-waits", task["pid"])
    client.write_file("e-full", "/proc/sys/vm/min_free_kbytes", "1024\n")
    second = client.host("e-full")["nodes"][1]
    filler = {"kind": "kernel", "memory": second["free_bytes"] - (32 << 20), "node": 1}
    client.start_task("e-full", filler)


@dataclass
class Watched:
    """A Prometheus that watches a service."""

    url: str
    server: Server

    def ask(self, path: str, **params: str) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=params, timeout=PATIENCE_SECONDS).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    for program in ("prometheus", "promtool"):
        skip_without(program)
    folder = tmp_path_factory.mktemp("prometheus")
    tokens = folder / "tokens"
    tokens.write_text(
        f"{line_of(Caller('ops', Role.ADMIN), TOKEN)}\n{line_of(Caller('prometheus', Role.READ), READER)}\n"
    )
    settings = {"HUGEPOOL_TOKENS_FILE": str(tokens), "HUGEPOOL_METRICS_HOSTS": str(SHOWN)}
    with serving(folder, settings=settings, token=TOKEN) as server:
        make_hosts(server.client)
        write_configuration(folder, server.url.removeprefix("http://"))
        with running(folder) as url:
            found = Watched(url, server)
            await_scrapes(found)
            yield found


def write_configuration(folder: Path, service: str) -> None:
    """The files of docker/monitoring with this machine's addresses, a token, and a target that is down."""
    (folder / "token").write_text(READER)
    (folder / "alerts.yaml").write_text((FILES / "alerts.yaml").read_text())
    text = (FILES / "prometheus.yaml").read_text()
    for shipped, here in (
        ("# authorization:", "authorization:"),
        ("/etc/prometheus/", f"{folder}/"),
        ('["hugepool:8000"]', f'["{service}", "127.0.0.1:1"]'),
        ("http://hugepool:8000/", f"http://{service}/"),
        ("_interval: 15s", f"_interval: {SCRAPE_SECONDS}s"),
        ("refresh_interval: 30s", "refresh_interval: 1s"),
    ):
        assert shipped in text
        text = text.replace(shipped, here)
    (folder / "prometheus.yaml").write_text(text)


class running:  # noqa: N801 - used like a function, in a with
    """Prometheus, from when it is ready to when the block ends."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()

    def __enter__(self) -> str:
        url = f"http://127.0.0.1:{self.port}"
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={self.folder / 'prometheus.yaml'}",
                    f"--storage.tsdb.path={self.folder / 'series'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                if httpx.get(f"{url}/-/ready").status_code == 200:
                    return url
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        self.__exit__()
        pytest.fail(f"prometheus did not come up:\n{(self.folder / 'log').read_text()[-2000:]}")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE_SECONDS)


def await_scrapes(found: Watched) -> None:
    """Until every host has been scraped twice, so that there are rates, and rules have been evaluated since."""
    names = {*HOSTS.values(), HEALTHY, LEFT_OUT}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        twice = found.query("count_over_time(up[1m]) > 2")
        scraped = {row["metric"]["instance"] for row in twice}
        groups = found.ask("rules")["groups"]
        if names <= scraped and all(rule["health"] == "ok" for rule in groups[0]["rules"]):
            return
        time.sleep(0.1)
    pytest.fail(f"only {sorted(scraped)} were scraped")


def promtool(*arguments: str, given: str | None = None) -> str:
    skip_without("promtool")
    done = subprocess.run(["promtool", *arguments], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    return done.stdout + done.stderr


def test_every_host_is_found_and_scraped_with_a_token(watched: Watched) -> None:
    targets = watched.ask("targets", state="active")["activeTargets"]
    hosts = {t["labels"]["instance"]: t for t in targets if t["labels"]["job"] == "hugepool-hosts"}
    assert hosts.keys() == {*HOSTS.values(), HEALTHY, LEFT_OUT}
    assert {target["health"] for target in hosts.values()} == {"up"}
    assert hosts[HEALTHY]["labels"]["host_label_rack_row"] == "7"
    assert hosts[HEALTHY]["labels"]["kernel"] == "6.1"
    by_url = {t["scrapeUrl"]: t["health"] for t in targets if t["labels"]["job"] == "hugepool"}
    assert by_url == {f"{watched.server.url}/metrics": "up", "http://127.0.0.1:1/metrics": "down"}


def test_what_prometheus_has_is_what_the_service_says(watched: Watched) -> None:
    pool = watched.server.client.hugepages(HEALTHY, "2048kB")
    total = f'sum(hugepool_hugepages{{host="{HEALTHY}",size="2048kB",state=~"free|in_use"}})'
    for query in (total, f'node_memory_HugePages_Total{{instance="{HEALTHY}"}}'):
        assert [float(row["value"][1]) for row in watched.query(query)] == [pool["nr_hugepages"]]
    left_out = watched.query('hugepool_hosts{included="no"}')
    assert [float(row["value"][1]) for row in left_out] == [len({*HOSTS.values(), HEALTHY, LEFT_OUT}) - SHOWN]
    assert not watched.query(f'hugepool_host_info{{host="{LEFT_OUT}"}}')


@pytest.mark.parametrize("alert", [rule["alert"] for rule in ALERTS])
def test_every_alert_is_about_the_hosts_in_its_state_and_no_other(watched: Watched, alert: str) -> None:
    rules = {rule["name"]: rule for rule in watched.ask("rules")["groups"][0]["rules"]}
    assert rules[alert]["state"] in {"pending", "firing"}
    about = {row["labels"].get("host", row["labels"].get("instance")) for row in rules[alert]["alerts"]}
    if alert == "HugepoolDown":
        assert about == {"127.0.0.1:1"}
    elif alert == "HugepoolHostsLeftOut":
        assert about == {watched.server.url.removeprefix("http://")}
    else:
        assert HOSTS[alert] in about
        assert HEALTHY not in about
    for row in rules[alert]["alerts"]:
        assert "<no value>" not in json.dumps(row["annotations"])


@pytest.mark.parametrize(("title", "expression"), QUERIES, ids=[title for title, _ in QUERIES])
def test_every_query_of_the_board_has_an_answer(watched: Watched, title: str, expression: str) -> None:
    for variable, value in (("$host", ".*"), ("$size", ".*"), ("$__rate_interval", "10s")):
        expression = expression.replace(variable, value)
    assert "$" not in expression
    found = watched.query(expression)
    assert found
    assert not [row for row in found if row["value"][1] == "NaN"]


@pytest.mark.parametrize("variable", BOARD["templating"]["list"], ids=lambda variable: variable["name"])
def test_every_variable_of_the_board_has_values(watched: Watched, variable: dict[str, Any]) -> None:
    metric, label = variable["definition"].removeprefix("label_values(").removesuffix(")").split(", ")
    assert watched.ask(f"label/{label}/values", **{"match[]": metric})


def test_the_files_and_both_kinds_of_metrics_pass_promtool(watched: Watched, tmp_path: Path) -> None:
    assert "SUCCESS" in promtool("check", "rules", str(FILES / "alerts.yaml"))
    assert "SUCCESS" in promtool("test", "rules", str(FILES / "alerts.test.yaml"))
    write_configuration(tmp_path, "127.0.0.1:8000")
    assert "SUCCESS" in promtool("check", "config", str(tmp_path / "prometheus.yaml"))
    text = watched.server.client.request("GET", "/metrics").text
    assert promtool("check", "metrics", given=text) == ""


def test_every_alert_has_a_test_of_when_it_fires() -> None:
    tested = (FILES / "alerts.test.yaml").read_text()
    assert [rule["alert"] for rule in ALERTS if rule["alert"] not in tested] == []


def test_compose_mounts_files_that_are_there_and_lets_prometheus_ask_by_name() -> None:
    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    mounts = [volume for name in ("prometheus", "grafana") for volume in services[name]["volumes"]]
    for source, *_ in (mount.split(":") for mount in mounts if mount.startswith("./")):
        assert (ROOT / "docker" / source).exists(), source
    asked = yaml.safe_load((FILES / "prometheus.yaml").read_text())["scrape_configs"][0]["static_configs"]
    name = asked[0]["targets"][0].partition(":")[0]
    assert name in services
    assert services["hugepool"]["environment"]["HUGEPOOL_ALLOWED_HOSTS"] == name
    assert {services[name].get("profiles", [None])[0] for name in services} == {None, "monitoring"}


def test_the_board_is_one_that_grafana_reads() -> None:
    source = yaml.safe_load((FILES / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    uid = source["datasources"][0]["uid"]
    assert {panel["datasource"]["uid"] for panel in BOARD["panels"]} == {uid}
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])
    cells = [
        (x, y)
        for grid in (panel["gridPos"] for panel in BOARD["panels"])
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
