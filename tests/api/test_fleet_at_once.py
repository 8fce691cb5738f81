"""Many hosts made in one request, all or none, and plans over all of them."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.conftest import Api, refused, serving

SPEC = {"nodes": [{"memory": "1G"}], "cmdline": "hugetlb_free_vmemmap=on"}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A service that keeps at most 12 hosts."""
    with serving(tmp_path_factory.mktemp("fleet"), hosts=12) as api:
        made = api.post(
            "/v1/fleet",
            {
                "hosts": [
                    {"name": "web-{i}", "count": 3, "spec": SPEC, "labels": {"rack": "7"}},
                    {"name": "db-{i}x", "count": 2, "first": 5, "spec": {**SPEC, "kernel": "6.1"}},
                    {"name": "alone", "spec": {"nodes": [{"memory": "2G"}]}},
                ]
            },
        )
        assert made.status_code == 201, made.text
        assert made.json() == {"created": 6, "hosts": ["web-0", "web-1", "web-2", "db-5x", "db-6x", "alone"]}
        yield api


def names(api: Api) -> list[str]:
    return [host["name"] for host in api.get("/v1/hosts").json()["items"]]


ALL = ["alone", "db-5x", "db-6x", "web-0", "web-1", "web-2"]


def test_the_hosts_are_there_with_labels_and_pass_their_audit(fleet: Api) -> None:
    assert names(fleet) == ALL
    labelled = fleet.get("/v1/hosts", params={"label": "rack=7"}).json()["items"]
    assert [(host["name"], host["revision"]) for host in labelled] == [
        ("web-0", 1),
        ("web-1", 1),
        ("web-2", 1),
    ]
    assert fleet.get("/v1/hosts/db-6x").json()["kernel"] == "6.1"
    for name in ("web-1", "web-2"):
        assert fleet.get(f"/v1/hosts/{name}/audit").json()["ok"]
    (booted,) = fleet.get("/v1/hosts/web-2/events", params={"limit": 1}).json()["items"]
    assert booted["type"] == "HostBooted"


def test_hosts_of_one_template_are_independent(fleet: Api) -> None:
    fleet.put("/v1/hosts/web-1/hugepages/2048kB/nr_hugepages", {"count": 8})
    counts = [
        fleet.get(f"/v1/hosts/{name}/hugepages/2048kB").json()["nr_hugepages"]
        for name in ("web-0", "web-1", "web-2")
    ]
    fleet.put("/v1/hosts/web-1/hugepages/2048kB/nr_hugepages", {"count": 0})
    assert counts == [0, 8, 0]


@pytest.mark.parametrize(
    ("hosts", "status", "detail"),
    [
        (
            [{"name": "new", "spec": SPEC}, {"name": "web-{i}", "count": 9, "spec": SPEC}],
            409,
            "3 of 10 names are taken",
        ),
        ([{"name": "new", "spec": SPEC}, {"name": "n", "fork_of": "nosuch"}], 404, "no host 'nosuch'"),
        (
            [{"name": "new", "spec": SPEC}, {"name": "x", "spec": {"nodes": [{"memory": "1M"}]}}],
            422,
            "hosts[1]",
        ),
        ([{"name": "new", "spec": SPEC}, {"name": "new", "spec": SPEC}], 422, "names 'new' 2 times"),
        ([{"name": "new", "count": 2, "spec": SPEC}], 422, "must have {i} in name"),
        ([{"name": "-{i}", "spec": SPEC}], 422, "makes a name that no host can have"),
        ([{"name": "new", "spec": SPEC, "fork_of": "alone"}], 422, "exactly one of spec and fork_of"),
        ([{"name": "new-{i}", "count": 1001, "spec": SPEC}], 422, "count"),
        ([{"name": "new-{i}", "count": 7, "spec": SPEC}], 507, "there are 12 hosts already"),
        ([], 422, "hosts"),
    ],
)
def test_all_or_none_are_made(fleet: Api, hosts: list[dict[str, Any]], status: int, detail: str) -> None:
    before = fleet.get("/v1/events").json()
    answer = fleet.post("/v1/fleet", {"hosts": hosts})
    assert answer.status_code == status, answer.text
    assert detail in answer.json()["detail"]
    assert names(fleet) == ALL
    assert fleet.get("/v1/events").json() == before


def test_a_dry_run_makes_none_and_a_key_makes_them_once(fleet: Api) -> None:
    body = {"hosts": [{"name": "copy-{i}", "count": 2, "fork_of": "alone"}]}
    dry = fleet.post("/v1/fleet?dry_run=true", body)
    assert (dry.status_code, dry.json()["created"]) == (201, 2)
    assert names(fleet) == ALL
    first, again = (fleet.post("/v1/fleet", body, headers={"Idempotency-Key": "k"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["Idempotent-Replay"] == "true"
    assert fleet.delete("/v1/hosts", params={"name": "copy-*"}).json() == {"deleted": 2}
    assert names(fleet) == ALL


# -- plans -------------------------------------------------------------------------------------------------

PLANS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "max-pool": ({"keep": "256M"}, ("pool", "nr_hugepages")),
    "savings": ({"count": 64}, ("net_bytes",)),
    "headroom": ({"count": 4, "points": 2}, ("count",)),
    "offline": ({"memory": "128M"}, ("together", "bytes")),
    "placement": ({"memory": "16M"}, ("now", "fits")),
    "churn": ({"rounds": 1, "seeds": 1}, ("now", "2048kB")),
}
TOTAL = {
    "max-pool": "nr_hugepages", "savings": "net_bytes", "headroom": "count", "offline": "bytes",
    "placement": "hosts_that_fit", "churn": "now_2048kB",
}  # fmt: skip


@pytest.mark.parametrize("plan", PLANS)
def test_a_plan_over_many_hosts_is_that_of_each_and_totals(fleet: Api, plan: str) -> None:
    body, path = PLANS[plan]
    for name in ("web-0", "web-1", "web-2"):
        fleet.put(f"/v1/hosts/{name}/hugepages/2048kB/nr_hugepages", {"count": 8})
    whole = fleet.post(f"/v1/fleet/plans/{plan}", {**body, "filter": {"name": "web-*"}}).json()
    alone = fleet.post(f"/v1/hosts/web-1/plans/{plan}", body).json()
    assert [row["host"] for row in whole["hosts"]] == ["web-0", "web-1", "web-2"]
    assert whole["hosts"][1]["answer"] == alone
    value: Any = alone
    for part in path:
        value = value[part]
    assert whole["totals"][TOTAL[plan]] == 3 * value
    assert {k: whole["totals"][k] for k in ("hosts", "answered", "refused")} == {
        "hosts": 3,
        "answered": 3,
        "refused": 0,
    }


def test_a_host_that_refuses_the_question_is_a_row_with_its_error(fleet: Api) -> None:
    answer = fleet.post(
        "/v1/fleet/plans/savings", {"count": 8, "node": 1, "filter": {"kernel": "6.1"}}
    ).json()
    assert answer["totals"]["refused"] == 2
    assert {row["error"]["errno"] for row in answer["hosts"]} == {"ENOENT"}


def test_no_host_fits_is_an_answer_and_a_wrong_filter_is_refused(fleet: Api) -> None:
    nothing = fleet.post("/v1/fleet/plans/max-pool", {"keep": 0, "filter": {"labels": {"rack": "9"}}}).json()
    assert (nothing["hosts"], nothing["totals"]["nr_hugepages"]) == ([], 0)
    refused(fleet.post("/v1/fleet/plans/max-pool", {"keep": 0, "filter": {"nme": "x"}}), 422, "EINVAL")


def test_it_can_be_a_job(fleet: Api) -> None:
    headers = {"Prefer": "respond-async"}
    job = fleet.post("/v1/fleet/plans/savings", {"count": 8}, headers=headers)
    assert (job.status_code, job.json()["kind"], job.json()["total"]) == (202, "fleet-savings", 6)
    fleet.delete(f"/v1/jobs/{job.json()['id']}")
