"""Several servers on one PostgreSQL: order, news, claims, and a database that dies and comes back."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
import yaml
from sqlalchemy import make_url, text

from hugepool.mm.boot.spec import HostSpec, NodeSpec
from hugepool.mm.commands import commands as c
from hugepool.service import Idempotency, Service, StoreFailure, Terms
from hugepool.settings import Settings
from tests.databases import Cluster
from tests.docs.console import ROOT
from tests.service.conftest import Clock

SPEC = HostSpec((NodeSpec(1 << 30),))
Make = Callable[..., Service]


@pytest.fixture
def make(cluster: Cluster) -> Iterator[Make]:
    """Makes servers on one new database; they never ask for news by themselves."""
    url, made = cluster.new_database(), list[Service]()

    def server() -> Service:
        made.append(
            Service(
                Settings(database_url=url, events_poll_seconds=3600.0, database_timeout_seconds=20.0), Clock()
            )
        )
        made[-1].start()
        return made[-1]

    yield server
    for service in made:
        service.close()
    cluster.drop_database(url)


def resize(service: Service, host: str, count: int, key: str | None = None) -> int:
    terms = Terms() if key is None else Terms(idempotency=Idempotency(key, "same"))
    return service.execute(host, c.SetMaxHugePages(9, count), terms).revision


def until(true: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def listening(service: Service) -> bool:
    return service._notices is not None and service._notices.listening.is_set()


def test_who_waits_on_one_server_hears_of_changes_on_another(make: Make) -> None:
    here, there = make(), make()
    until(lambda: listening(here))
    here.create("lab", SPEC, Terms())
    newest, number = here.newest_change(), here.last_event("lab")
    heard: dict[str, float] = {}

    def wait(what: str, waiting: Callable[[], object]) -> None:
        assert waiting()
        heard[what] = time.monotonic()

    threads = [
        threading.Thread(target=wait, args=("host", lambda: here.wait_events("lab", number, 25.0))),
        threading.Thread(target=wait, args=("all", lambda: here.wait_changes(newest, 25.0))),
    ]
    for thread in threads:
        thread.start()
    time.sleep(0.2)  # they wait by now, or find the change at once
    began = time.monotonic()
    resize(there, "lab", 3)
    for thread in threads:
        thread.join()
    assert max(heard.values()) - began < 5


def test_a_listener_whose_connection_is_cut_listens_again(make: Make, cluster: Cluster) -> None:
    here, there = make(), make()
    here.create("lab", SPEC, Terms())
    until(lambda: listening(here))
    with here._database.writing() as connection:
        connection.execute(text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                                "WHERE query LIKE 'LISTEN%' AND datname = current_database()"))  # fmt: skip
    until(lambda: not listening(here))
    until(lambda: listening(here))
    newest = here.newest_change()
    timer = threading.Timer(0.2, resize, (there, "lab", 2))
    timer.start()
    assert [change.host for change in here.wait_changes(newest, 25.0)] == ["lab"]
    timer.join()


def test_numbers_of_changes_are_seen_in_their_order(make: Make) -> None:
    """Who reads on from the newest number misses nothing, though four writers are at it on two servers."""
    servers = [make(), make()]
    names = [f"h{i}" for i in range(4)]
    for name in names:
        servers[0].create(name, SPEC, Terms())
    begin, seen = servers[0].newest_change(), list[tuple[str, int]]()

    def write(service: Service, name: str) -> None:
        for n in range(1, 13):
            resize(service, name, n % 7)

    writing = [threading.Thread(target=write, args=(servers[i % 2], name)) for i, name in enumerate(names)]
    for thread in writing:
        thread.start()
    position, deadline = begin, time.monotonic() + 60
    while len(seen) < 48 and time.monotonic() < deadline:
        for change in servers[1].changes(position):
            seen.append((change.host, change.revision))
            position = change.seq
    for thread in writing:
        thread.join()
    assert sorted(seen) == sorted((name, revision) for name in names for revision in range(2, 14))


def test_writers_of_one_host_on_two_servers_lose_nothing(make: Make) -> None:
    servers = [make(), make()]
    servers[0].create("lab", SPEC, Terms())
    revisions: list[int] = []

    def write(service: Service, first: int) -> None:
        revisions.extend(resize(service, "lab", first + n) for n in range(10))

    threads = [threading.Thread(target=write, args=(service, 20 * i)) for i, service in enumerate(servers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(revisions) == list(range(2, 22))
    for service in servers:
        assert service.revision("lab") == 21
        assert service.audit("lab")[0].ok


class Writer(threading.Thread):
    """Resizes one host again and again; a request that fails is sent again with its key."""

    def __init__(self, service: Service, name: str, stop: threading.Event) -> None:
        super().__init__()
        self.service, self.host, self.stop = service, name, stop
        self.revisions: list[int] = []  # acknowledged
        self.refused: list[str] = []

    def run(self) -> None:
        number = 1
        while not self.stop.is_set():
            try:
                revision = resize(self.service, self.host, 1 + number % 5, f"{self.host}-{number}")
            except StoreFailure as failure:
                self.refused.append(str(failure))
                time.sleep(0.05)
            else:
                self.revisions.append(revision)
                number += 1


def await_more(writers: list[Writer]) -> None:
    """Until each has had a few more requests acknowledged."""
    wanted = [(writer, len(writer.revisions) + 3) for writer in writers]
    until(lambda: all(len(writer.revisions) > count for writer, count in wanted), 60)


def test_nothing_acknowledged_is_lost_when_the_database_dies(make: Make, cluster: Cluster) -> None:
    """It is killed twice under two servers and four writers; they go on once it is back."""
    servers, stop = [make(), make()], threading.Event()
    writers = [Writer(servers[i % 2], f"h{i}", stop) for i in range(4)]
    for writer in writers:
        writer.service.create(writer.host, SPEC, Terms())
        writer.start()
    for _ in range(2):
        await_more(writers)
        cluster.stop()
        time.sleep(0.3)  # requests meet a database that is gone
        cluster.start()
    await_more(writers)
    stop.set()
    for writer in writers:
        writer.join()
    assert all(writer.refused for writer in writers)
    for writer in writers:
        count = len(writer.revisions)
        assert writer.revisions == list(range(2, count + 2))  # each once, in order
        assert servers[0].history(writer.host, count, 10)[-1].revision == count + 1
        assert servers[1].audit(writer.host)[0].ok
    until(lambda: all(map(listening, servers)))


def test_hosts_are_listed_by_the_bytes_of_their_names_whatever_the_language_is(
    make: Make, cluster: Cluster
) -> None:
    service = make()
    for name in ("ab", "a-b", "a1", "aa"):
        service.create(name, SPEC, Terms())
    assert [row.name for row in service.list(10)[0]] == ["a-b", "a1", "aa", "ab"]
    assert [row.name for row in service.list(10, "a1")[0]] == ["aa", "ab"]
    with service._database.reading() as connection:
        found = connection.execute(
            text(
                "SELECT collation_name FROM information_schema.columns WHERE table_name = 'hosts' "
                "AND column_name = 'name'"
            )
        ).scalar_one()
    assert found == "C"


def test_an_address_that_nobody_listens_at_is_refused_in_one_sentence(cluster: Cluster) -> None:
    url = cluster.url("test").replace(str(cluster.folder), "/nowhere")
    service = Service(Settings(database_url=url))
    with pytest.raises(StoreFailure, match=r"the database failed: .*No such file"):
        service.start()
    service.close()


def test_compose_has_a_database_that_the_service_can_be_pointed_at() -> None:
    services = yaml.safe_load((ROOT / "docker" / "compose.postgres.yaml").read_text())["services"]
    url = make_url(services["hugepool"]["environment"]["HUGEPOOL_DATABASE_URL"])
    postgres = services["postgres"]["environment"]
    assert (url.drivername, url.username, url.database) == (
        "postgresql+psycopg",
        postgres["POSTGRES_USER"],
        postgres["POSTGRES_DB"],
    )
    assert f"socket:{url.query['host']}" in services["postgres"]["volumes"]
