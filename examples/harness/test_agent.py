"""The agent on machines that are rarely at hand.

``hugepool_host`` has the two methods that the agent needs; the last test runs it as the program it is.
"""

import sys

import agent
import pytest


def test_a_pool_grows_and_shrinks(hugepool_host):
    assert agent.resize(hugepool_host, 512) == agent.Outcome(wanted=512, pages=512, surplus=0)
    assert hugepool_host.pool()["free_hugepages"] == 512
    assert agent.resize(hugepool_host, 0).pages == 0


@pytest.mark.hugepool(kernel="5.14", nodes=[{"memory": "1G", "cpus": 1}])
def test_a_machine_that_is_too_small_is_told(hugepool_host):
    outcome = agent.resize(hugepool_host, 5000)
    assert 0 < outcome.pages < 512
    assert hugepool_host.client.audit(hugepool_host.name)["ok"]


def test_a_page_in_use_stays(hugepool_host):
    agent.resize(hugepool_host, 8)
    hugepool_host.client.start_task(hugepool_host.name, {"kind": "hugetlb", "count": 1, "touch": 1})
    assert agent.resize(hugepool_host, 0).pages == 1


@pytest.mark.parametrize(("failures", "left"), [(0, 0), (3, 0), (-1, 8)])
def test_pages_whose_vmemmap_cannot_be_restored_are_tried_once_more(hugepool_host, failures, left):
    agent.resize(hugepool_host, 8)
    if failures:
        hugepool_host.client.set_fault(hugepool_host.name, "vmemmap-restore", {"times": failures})
    assert agent.resize(hugepool_host, 0).pages == left


def test_the_program_tells_and_exits_as_it_should(hugepool_host):
    for wanted, status in ((64, 0), (1_000_000, 1)):
        done = hugepool_host.exec(sys.executable, agent.__file__, str(wanted))
        assert done.stderr == ""
        assert done.returncode == status
        assert done.stdout == f"{hugepool_host.pool()['nr_hugepages']} of {wanted} pages, 0 surplus\n"
        hugepool_host.reset()
