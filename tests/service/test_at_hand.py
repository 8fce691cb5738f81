"""Reading without waiting: the same answer, or none at all."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from hugepool.mm.commands import commands as c
from hugepool.mm.machine.state import Host
from hugepool.mm.views import host_view as view
from hugepool.service import HostNotFound, Service, Terms, WouldWait

pytestmark = pytest.mark.sqlite

Make = Callable[[], Service]


def size(host: Host) -> int:
    return host.hstates[9].nr_huge_pages


def ways(service: Service) -> list[Callable[[], Any]]:
    """Both ways to ask without waiting."""
    return [lambda: service.read("lab", size, wait=False), lambda: service.show("lab", view.host, wait=False)]


def test_what_is_at_hand_is_what_who_waits_gets(service: Service) -> None:
    service.execute("lab", c.SetMaxHugePages(9, 12), Terms())
    shown = service.show("lab", view.host)
    assert service.read("lab", size, wait=False) == service.read("lab", size) == (12, 2)
    assert service.show("lab", view.host, wait=False) == shown


def test_a_summary_that_is_not_made_yet_is_not_made_by_who_cannot_wait(service: Service) -> None:
    with pytest.raises(WouldWait):
        service.show("lab", view.host, wait=False)


def test_a_host_in_use_is_not_waited_for(service: Service) -> None:
    service.show("lab", view.host)
    inside, done = threading.Event(), threading.Event()

    def slow(_: Host) -> None:
        inside.set()
        done.wait(60)

    busy = threading.Thread(target=service.read, args=("lab", slow))
    busy.start()
    assert inside.wait(60)
    for ask in ways(service):
        with pytest.raises(WouldWait):
            ask()
    done.set()
    busy.join(60)
    for ask in ways(service):
        assert ask()[1] == 1


def test_what_another_process_changed_is_seen_and_not_loaded_on_the_way(
    service: Service, another: Make
) -> None:
    service.show("lab", view.host)
    another().execute("lab", c.SetMaxHugePages(9, 7), Terms())
    for ask in ways(service):
        with pytest.raises(WouldWait):
            ask()
    assert service.read("lab", size) == (7, 2)
    assert service.read("lab", size, wait=False) == (7, 2)


def test_a_host_that_is_gone_is_gone_for_who_cannot_wait(service: Service, another: Make) -> None:
    service.show("lab", view.host)
    another().delete("lab", Terms())
    for ask in ways(service):
        with pytest.raises(HostNotFound):
            ask()


def test_a_database_that_is_locked_is_not_waited_for(service: Service) -> None:
    service.show("lab", view.host)
    guard = service._database._at_hand_guard  # as another caller would hold it
    with guard:
        for ask in ways(service):
            with pytest.raises(WouldWait):
                ask()
    assert service.read("lab", size, wait=False) == (0, 1)
