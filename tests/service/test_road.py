"""The road: what is answered is stored, what is refused left no trace."""

from collections.abc import Callable
from typing import Any

import pytest

from hugepool.mm.boot.spec import HostSpec, NodeSpec
from hugepool.mm.commands import commands as c
from hugepool.mm.commands.apply import apply
from hugepool.mm.machine.digest import digest
from hugepool.mm.machine.errors import BadInput, MMError
from hugepool.mm.machine.state import Host
from hugepool.service import (
    ForkOf,
    HostNotFound,
    Idempotency,
    IdempotencyMismatch,
    PreconditionFailed,
    Service,
    StoreFailure,
    Terms,
)
from hugepool.service import service as module
from hugepool.settings import Settings

HOUR_NS = 3600 * 10**9
SMALL = HostSpec((NodeSpec(1 << 30),))
Make = Callable[[], Service]


def keyed(key: str, fingerprint: str = "a") -> Terms:
    return Terms(idempotency=Idempotency(key, fingerprint))


def nr(service: Service, name: str = "lab") -> int:
    return service.read(name, lambda host: host.hstates[9].nr_huge_pages)[0]


def state(service: Service, name: str = "lab") -> tuple[str, int, int]:
    mark, revision = service.read(name, digest)
    return mark, revision, len(service.events(name, 0, 1000))


# -- hosts ------------------------------------------------------------------------------------------------


def test_a_new_host_is_there_for_every_process(service: Service, another: Make) -> None:
    assert another().read("lab", digest) == service.read("lab", digest)
    rows, cursor = service.list(10)
    assert [(row.name, row.kernel, row.revision) for row in rows] == [("lab", "5.14", 1)]
    assert rows[0].created_at == "2023-11-14T22:13:20.000000Z"
    assert cursor is None


def test_a_taken_name_is_refused(service: Service) -> None:
    before = state(service)
    with pytest.raises(MMError, match="already") as refused:
        service.create("lab", SMALL, Terms())
    assert refused.value.errno == "EEXIST"
    assert state(service) == before


def test_an_impossible_machine_is_refused_and_not_stored(service: Service) -> None:
    with pytest.raises(BadInput):
        service.create("tiny", HostSpec((NodeSpec(1),)), Terms())
    with pytest.raises(HostNotFound):
        service.read("tiny", digest)


def test_a_fork_is_the_same_machine_with_a_life_of_its_own(service: Service) -> None:
    service.execute("lab", c.SetMaxHugePages(9, 10), Terms())
    service.create("copy", ForkOf("lab"), Terms())
    assert service.read("copy", digest)[0] == service.read("lab", digest)[0]
    console = [e.data for e in service.events("lab", 0, 1000, "KernelMessagePrinted")]
    assert console
    assert [e.data for e in service.events("copy", 0, 1000, "KernelMessagePrinted")] == console
    service.execute("copy", c.SetMaxHugePages(9, 20), Terms())
    assert (nr(service, "lab"), nr(service, "copy")) == (10, 20)
    with pytest.raises(HostNotFound):
        service.create("ghost", ForkOf("nowhere"), Terms())


def test_a_dry_creation_answers_and_stores_nothing(service: Service) -> None:
    reply = service.create("dry", SMALL, Terms(dry_run=True), lambda host, _: {"kernel": host.kernel})
    assert (reply.result, reply.revision) == ({"kernel": "5.14"}, 0)
    with pytest.raises(HostNotFound):
        service.read("dry", digest)


def test_a_deleted_host_is_gone_with_its_history(service: Service, another: Make) -> None:
    other = another()
    other.read("lab", digest)
    service.delete("lab", Terms(dry_run=True))
    assert nr(service) == 0
    service.delete("lab", Terms(if_match=1))
    for each in (service, other):
        with pytest.raises(HostNotFound):
            each.read("lab", digest)
        for ask in (each.events, each.audit):
            with pytest.raises(HostNotFound):
                ask("lab")


def test_a_host_of_the_same_name_and_revision_is_not_taken_for_the_deleted_one(
    service: Service, another: Make
) -> None:
    other = another()
    other.read("lab", digest)
    service.delete("lab", Terms())
    service.create("lab", SMALL, Terms())
    assert other.read("lab", digest) == service.read("lab", digest)


def test_hosts_are_listed_in_pages(service: Service) -> None:
    for name in ("a", "b", "z"):
        service.create(name, SMALL, Terms())
    names, cursor = [], None
    while True:
        rows, cursor = service.list(2, cursor)
        names += [row.name for row in rows]
        if cursor is None:
            break
    assert names == ["a", "b", "lab", "z"]


# -- commands ---------------------------------------------------------------------------------------------


def test_a_change_advances_the_revision_and_the_history(service: Service, another: Make) -> None:
    reply = service.execute("lab", c.SetMaxHugePages(9, 10), Terms())
    assert (reply.revision, reply.error) == (2, None)
    assert reply.result is not None
    assert reply.result.after.nr_hugepages == 10
    assert nr(another()) == 10
    events = service.events("lab", 0, 1000)
    assert [e.id for e in events] == list(range(1, len(events) + 1))
    mine = [e for e in events if e.revision == 2]
    assert [(e.type, e.data) for e in mine] == reply.events
    assert mine[-1].type == "PoolResized"
    assert mine[-1].time == "2023-11-14T22:13:20.000000Z"


def test_a_refusal_leaves_no_trace(service: Service) -> None:
    before = state(service)
    for command in (
        c.CreateTask("anon", pages=10**7),
        c.CreateTask("hugetlb", count=5),
        c.SetMaxHugePages(9, -1),
        c.ExitTask(5),
    ):
        with pytest.raises(MMError):
            service.execute("lab", command, Terms())
        assert state(service) == before


def in_memory(service: Service) -> Host:
    loaded = service._cache.peek("lab")
    assert loaded is not None
    return loaded.host


def test_a_refusal_that_touched_nothing_keeps_the_host_in_memory(service: Service) -> None:
    before, host = state(service), in_memory(service)
    with pytest.raises(MMError):
        service.execute("lab", c.SetBlockState(99, "offline"), Terms())
    assert in_memory(service) is host
    assert state(service) == before


def test_a_refusal_that_came_half_way_throws_the_host_in_memory_away(service: Service) -> None:
    service.execute("lab", c.SetMinFreeKbytes(128), Terms())
    pid = service.execute("lab", c.StartTask("kernel"), Terms()).result.pid
    service.execute("lab", c.GrowTask(pid, "kernel", at_most=0, partial=True), Terms())
    before, host = state(service), in_memory(service)
    with pytest.raises(MMError) as refused:  # the map has grown when there is no memory for its page table
        service.execute("lab", c.AddMemory(0, 32768), Terms())
    assert refused.value.reason == "vmemmap-populate"
    assert state(service) == before
    assert in_memory(service) is not host


def test_a_refusal_that_the_kernel_leaves_traces_of_is_kept(service: Service, another: Make) -> None:
    service.execute("lab", c.SetMaxHugePages(9, 10), Terms())
    service.execute("lab", c.SetFault("vmemmap-restore", times=3), Terms())
    reply = service.execute("lab", c.SetMaxHugePages(9, 0), Terms())
    assert reply.error is not None
    assert (reply.error["errno"], reply.error["reason"]) == ("ENOMEM", "injected-fault")
    assert reply.result is not None
    assert reply.revision == 4
    assert nr(service) == nr(another()) == 3


def test_a_dry_run_answers_the_same_and_stores_nothing(service: Service) -> None:
    before = state(service)
    dry = service.execute("lab", c.SetMaxHugePages(9, 10), Terms(dry_run=True))
    assert state(service) == before
    wet = service.execute("lab", c.SetMaxHugePages(9, 10), Terms())
    assert (dry.result, dry.events, dry.revision) == (wet.result, wet.events, 1)


def test_if_match_holds_the_change_to_a_revision(service: Service) -> None:
    service.execute("lab", c.SetMaxHugePages(9, 1), Terms(if_match=1))
    before = state(service)
    for terms in (Terms(if_match=1), Terms(if_match=1, dry_run=True)):
        with pytest.raises(PreconditionFailed) as failed:
            service.execute("lab", c.SetMaxHugePages(9, 2), terms)
        assert failed.value.facts == {"revision": 2, "expected": 1}
        with pytest.raises(PreconditionFailed):
            service.delete("lab", terms)
    assert state(service) == before


def test_a_change_of_another_process_is_seen_at_once(service: Service, another: Make) -> None:
    other = another()
    assert nr(other) == 0
    service.execute("lab", c.SetMaxHugePages(9, 10), Terms())
    assert nr(other) == 10
    other.execute("lab", c.SetMaxHugePages(9, 20), Terms())
    assert nr(service) == 20
    assert service.read("lab", digest) == other.read("lab", digest)


def test_a_race_lost_to_another_process_is_run_again(
    service: Service, another: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = another()
    calls: list[Any] = []

    def overtaken(host: Host, command: Any, now_ns: int) -> Any:
        calls.append(command)
        if len(calls) == 1:
            other.execute("lab", c.SetOvercommit(9, 33), Terms())
        return apply(host, command, now_ns)

    monkeypatch.setattr(module, "apply", overtaken)
    reply = service.execute("lab", c.SetMaxHugePages(9, 10), Terms())
    assert reply.revision == 3
    assert len(calls) == 3
    assert service.read("lab", lambda h: h.hstates[9].nr_overcommit_huge_pages)[0] == 33
    assert nr(service) == 10


def test_a_failed_transaction_throws_the_host_in_memory_away(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state(service)

    def fails(*_args: Any, **_kwargs: Any) -> None:
        raise StoreFailure("disk full")

    with monkeypatch.context() as broken:
        broken.setattr("hugepool.store.hosts.idempotency.keep", fails)
        with pytest.raises(StoreFailure):
            service.execute("lab", c.SetMaxHugePages(9, 10), keyed("k"))
    assert state(service) == before
    assert service.execute("lab", c.SetMaxHugePages(9, 10), keyed("k")).replayed is False
    assert service.audit("lab")[0].ok


def test_a_bug_in_a_command_rolls_back(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state(service)

    def half(host: Host, command: Any, now_ns: int) -> Any:
        apply(host, command, now_ns)
        raise ZeroDivisionError

    with monkeypatch.context() as broken:
        broken.setattr(module, "apply", half)
        with pytest.raises(ZeroDivisionError):
            service.execute("lab", c.SetMaxHugePages(9, 10), Terms())
    assert state(service) == before


def test_hosts_beyond_the_memory_limit_are_loaded_again(settings: Settings) -> None:
    service = Service(settings.model_copy(update={"cache_bytes": 0}))
    service.start()
    for name in ("a", "b"):
        service.create(name, SMALL, Terms())
    for count in (1, 2):
        for name in ("a", "b"):
            service.execute(name, c.SetMaxHugePages(9, count), Terms())
    assert (nr(service, "a"), nr(service, "b")) == (2, 2)
    service.close()


# -- idempotency ------------------------------------------------------------------------------------------


def test_the_same_key_gives_the_stored_answer_again(service: Service, another: Make) -> None:
    first = service.execute("lab", c.SetMaxHugePages(9, 10), keyed("k"))
    service.execute("lab", c.SetMaxHugePages(9, 0), Terms())
    for each in (service, another()):
        again = each.execute("lab", c.SetMaxHugePages(9, 10), keyed("k"))
        assert (again.data, again.error, again.revision) == (first.data, None, 2)
        assert again.replayed
    assert nr(service) == 0


def test_the_same_key_with_another_request_is_refused(service: Service) -> None:
    service.execute("lab", c.SetMaxHugePages(9, 10), keyed("k", "a"))
    before = state(service)
    with pytest.raises(IdempotencyMismatch):
        service.execute("lab", c.SetMaxHugePages(9, 11), keyed("k", "b"))
    assert state(service) == before


def test_a_key_is_forgotten_after_a_day(service: Service, clock: Any) -> None:
    service.execute("lab", c.SetMaxHugePages(9, 10), keyed("k"))
    clock.now_ns += 24 * HOUR_NS
    reply = service.execute("lab", c.SetMaxHugePages(9, 11), keyed("k", "b"))
    assert (reply.replayed, reply.revision) == (False, 3)


def test_a_refusal_is_an_answer_and_given_again(service: Service) -> None:
    command = c.CreateTask("hugetlb", count=5)
    with pytest.raises(MMError) as refused:
        service.execute("lab", command, keyed("k"))
    service.execute("lab", c.SetMaxHugePages(9, 10), Terms())
    again = service.execute("lab", command, keyed("k"))
    assert again.replayed
    assert again.result is None
    assert again.error is not None
    assert (again.error["errno"], again.error["detail"]) == ("ENOMEM", refused.value.detail)


def test_what_never_reached_the_engine_is_not_kept(service: Service) -> None:
    with pytest.raises(BadInput):
        service.execute("lab", c.SetMaxHugePages(9, -1), keyed("k", "a"))
    with pytest.raises(HostNotFound):
        service.execute("nowhere", c.SetMaxHugePages(9, 1), keyed("k", "b"))
    with pytest.raises(PreconditionFailed):
        service.execute("lab", c.SetMaxHugePages(9, 1), Terms(if_match=9, idempotency=Idempotency("k", "c")))
    service.execute("lab", c.SetMaxHugePages(9, 1), Terms(dry_run=True, idempotency=Idempotency("k", "d")))
    assert not service.execute("lab", c.SetMaxHugePages(9, 1), keyed("k", "e")).replayed


def test_creation_and_deletion_have_keys_too(service: Service) -> None:
    first = service.create("new", SMALL, keyed("c"))
    assert service.create("new", SMALL, keyed("c")).replayed
    assert first.revision == 1
    service.delete("new", keyed("d"))
    assert service.delete("new", keyed("d")).replayed
    assert service.create("new", ForkOf("nowhere"), keyed("c")).replayed


def test_a_command_that_changed_nothing_keeps_revision_and_answer(service: Service) -> None:
    reply = service.execute("lab", c.RunFreeHpageWork(), keyed("k"))
    assert (reply.revision, reply.events) == (1, [])
    assert service.execute("lab", c.RunFreeHpageWork(), keyed("k")).replayed


# -- audit and readiness ----------------------------------------------------------------------------------


def test_the_audit_compares_the_rows_with_the_running_host(service: Service) -> None:
    found, revision = service.audit("lab")
    assert revision == 1
    assert found.ok
    assert [law for law in found.laws if not law.ok] == []
    service.read("lab", lambda host: host.counters.update(bent=1))
    broken = [law.law for law in service.audit("lab")[0].laws if not law.ok]
    assert broken == ["the stored host equals the running one"]


@pytest.mark.unmigrated
def test_readiness_names_what_is_missing(settings: Settings, clock: Any) -> None:
    service = Service(settings, clock)
    ready = service.ready()
    assert (ready.unfit, ready.database.ok) == (["migrations", "worker"], True)
    service.start()
    service.work.beat()
    assert service.ready().unfit == []
    clock.now_ns += HOUR_NS
    assert service.ready().unfit == ["worker"]
    service.close()


def test_a_database_that_cannot_be_reached_is_reported() -> None:
    service = Service(Settings(database_url="sqlite:////nowhere/at/all.db"))
    assert not service.ready().database.ok
    with pytest.raises(StoreFailure):
        service.list(1)
    service.close()
