"""Snapshots in the database: whole, durable, gone with their host, and never believed when damaged."""

from collections.abc import Callable

import pytest
from sqlalchemy import func, select, update

from hugepool.mm.boot.spec import HostSpec, NodeSpec
from hugepool.mm.commands import commands as c
from hugepool.mm.machine.digest import digest
from hugepool.service import Damaged, Service, Terms
from hugepool.settings import Settings
from hugepool.store import check, portable
from hugepool.store import tables as t
from tests.service.test_audit import NOW

CHURN = [c.SetMaxHugePages(9, 300), c.SetFault("hugepage-alloc", times=2), c.SetMaxHugePages(9, 7)]


@pytest.fixture
def whole(service: Service) -> Service:
    """The host ``lab`` has every kind of state, and a snapshot of it."""
    service.delete("lab", Terms())
    spec = HostSpec((NodeSpec(2 << 30), NodeSpec(2 << 30)), cmdline="hugetlb_free_vmemmap=on cma=64M")
    service.create("lab", spec, Terms())
    for command in NOW:
        service.execute("lab", command, Terms())
    service.keep_snapshot("lab", "ready", Terms())
    return service


def findings(settings: Settings) -> list[str]:
    """What `hugepool check` finds."""
    database = check.existing(settings)
    try:
        return list(check.findings(database, lambda _: None))
    finally:
        database.close()


def test_a_packed_host_is_the_same_after_unpacking(whole: Service) -> None:
    digests, _ = whole.read("lab", lambda host: (digest(host), digest(portable.unpack(portable.pack(host)))))
    assert digests[0] == digests[1]


def test_a_reset_host_is_the_same_down_to_its_pages_for_every_process(
    whole: Service, another: Callable[[], Service]
) -> None:
    before, _ = whole.read("lab", digest)
    for command in CHURN:
        whole.execute("lab", command, Terms())
    assert whole.read("lab", digest)[0] != before
    whole.reset("lab", "ready", Terms())
    assert whole.read("lab", digest)[0] == before
    assert whole.audit("lab")[0].ok
    other = another()
    assert other.read("lab", digest)[0] == before
    other.execute("lab", CHURN[0], Terms())
    assert other.reset("lab", "ready", Terms()).revision == whole.revision("lab")
    assert whole.read("lab", digest)[0] == before


def test_what_happens_to_a_host_leaves_its_snapshot_alone(whole: Service) -> None:
    before, _ = whole.read("lab", digest)
    for _ in range(3):
        whole.reset("lab", "ready", Terms())
        for command in CHURN:
            whole.execute("lab", command, Terms())
    whole.reset("lab", "ready", Terms())
    assert whole.read("lab", digest)[0] == before


def test_snapshots_go_with_their_host(whole: Service) -> None:
    whole.delete("lab", Terms())
    with whole._database.reading() as connection:
        assert connection.execute(select(func.count()).select_from(t.snapshots)).scalar_one() == 0


@pytest.mark.parametrize("damage", [{"machine": b"nothing"}, {"revision": 1}, {"nr_bytes": 1}])
def test_a_damaged_snapshot_is_refused_and_the_host_stays(
    whole: Service, settings: Settings, damage: dict[str, object]
) -> None:
    before, revision = whole.read("lab", digest)
    with whole._database.writing() as connection:
        connection.execute(update(t.snapshots).values(damage))
    with pytest.raises(Damaged, match="snapshot 'ready'"):
        whole.reset("lab", "ready", Terms())
    assert whole.read("lab", digest) == (before, revision)
    assert [finding for finding in findings(settings) if "the snapshot 'ready'" in finding]
    whole.keep_snapshot("lab", "ready", Terms())
    assert findings(settings) == []


def test_a_host_of_another_form_is_not_unpacked(whole: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    packed, _ = whole.read("lab", portable.pack)
    monkeypatch.setattr(portable, "FORM", "hugepool-host-2")
    with pytest.raises(ValueError, match="another form"):
        portable.unpack(packed)
