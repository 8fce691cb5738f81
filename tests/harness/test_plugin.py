"""The fixtures as another project uses them: pytest in its own process, warnings are errors."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

PATIENCE_SECONDS = 60.0
OTHERS = (
    "cacheprovider",
    "hypothesispytest",
    "schemathesis",
)  # plugins that take seconds, and have no part in this
ARGUMENTS = ("-W", "error", "--strict-markers", "-ra", *(f"-pno:{name}" for name in OTHERS))
POOL = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
TELL_PID = """
    import os
    from pathlib import Path

    def tell(server):
        Path(f"server-{server.pid}").write_text("")
        os.kill(server.pid, 0)
"""
Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Runs the text of a test file."""

    def run_text(text: str, *arguments: str) -> pytest.RunResult:
        pytester.makepyfile(text)
        return pytester.runpytest_subprocess(*ARGUMENTS, *arguments, timeout=PATIENCE_SECONDS)

    return run_text


def servers(folder: Path) -> list[int]:
    """Process ids of the servers that tests have heard of."""
    return [int(file.name.removeprefix("server-")) for file in folder.glob("server-*")]


def is_alive(pid: int) -> bool:
    """Whether there is such a process that has not ended."""
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_host_of_two_nodes_is_read_written_and_looked_at(run: Run) -> None:
    run(f"""
        def test_pool(hugepool_host, hugepool_server):
            assert hugepool_host.url == hugepool_server.url
            assert hugepool_host.read("/sys/devices/system/node/online") == "0-1\\n"
            assert hugepool_host.write("{POOL}", "8\\n") == "requested=8; nr_hugepages=8"
            assert hugepool_host.read("{POOL}") == "8\\n"
            assert hugepool_host.pool()["nr_hugepages"] == 8
            assert hugepool_host.pool("1048576kB")["nr_hugepages"] == 0
            assert hugepool_host.client.host(hugepool_host.name)["kernel"] == "6.12"
    """).assert_outcomes(passed=1)


def test_a_marker_says_what_machine_in_fields_or_as_a_whole(run: Run) -> None:
    run("""
        import pytest

        @pytest.mark.hugepool(kernel="5.14", cmdline="hugetlb_free_vmemmap=on hugepages=3")
        def test_fields_lie_over_the_default(hugepool_host):
            found = hugepool_host.client.host(hugepool_host.name)
            assert (found["kernel"], len(found["nodes"])) == ("5.14", 2)
            assert hugepool_host.pool()["nr_hugepages"] == 3

        @pytest.mark.hugepool(nodes=[{"memory": "1G"}] * 3)
        def test_nodes(hugepool_host):
            assert hugepool_host.read("/sys/devices/system/node/online") == "0-2\\n"

        @pytest.mark.hugepool(spec={"nodes": [{"memory": "1G"}]})
        class TestWhole:
            def test_has_nothing_of_the_default(self, hugepool_host):
                found = hugepool_host.client.host(hugepool_host.name)
                assert (found["kernel"], len(found["nodes"]), found["cmdline"]) == ("5.14", 1, "")

            @pytest.mark.hugepool(kernel="6.1")
            def test_the_closest_counts(self, hugepool_host):
                found = hugepool_host.client.host(hugepool_host.name)
                assert (found["kernel"], len(found["nodes"])) == ("6.1", 2)
    """).assert_outcomes(passed=4)


WRONG = {
    "state='tired'": "*no host for the marker hugepool: state: *",
    "kernal='6.1'": "*no host for the marker hugepool: spec.kernal: is not a known field*",
    "nodes=[{'memory': '4Q'}]": "*spec.nodes[[]0].memory: '4Q' is not a size*",
    "kernel='2.4'": "*no host for the marker hugepool: *2.4*",
    "spec='6.1'": "*no host for the marker hugepool: *",
    "spec={}, kernel='6.1'": "*the marker is hugepool(state=...), *not both*",
    "'6.1'": "*the marker is hugepool(state=...), *nothing without a name",
}


def test_a_wrong_marker_is_reported_in_a_line_and_boots_nothing(run: Run) -> None:
    tests = "\n".join(
        f"@pytest.mark.hugepool({arguments})\ndef test_{number}(hugepool_host): assert False, 'it ran'"
        for number, arguments in enumerate(WRONG)
    )
    after = "def test_after(hugepool_server): assert list(hugepool_server.client.hosts()) == []"
    result = run(f"import pytest\n{tests}\n{after}")
    result.assert_outcomes(errors=len(WRONG), passed=1)
    result.stdout.fnmatch_lines(list(WRONG.values()))
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*it ran*")


def test_two_tests_do_not_see_each_other(run: Run) -> None:
    run("""
        import pytest

        seen = []

        @pytest.mark.parametrize("count", [5, 7])
        def test_pool(hugepool_host, count):
            assert hugepool_host.pool()["nr_hugepages"] == 0
            assert [name for name in names(hugepool_host) if name in seen] == []
            hugepool_host.client.resize(hugepool_host.name, "2048kB", count)
            seen.append(hugepool_host.name)

        def names(host):
            return [found["name"] for found in host.client.hosts()]

        def test_their_hosts_are_gone(hugepool_host):
            assert len(set(seen)) == 2
            assert not set(seen) & set(names(hugepool_host))
    """).assert_outcomes(passed=3)


def test_a_reset_is_the_state_after_the_boot_and_leaves_the_others_alone(run: Run) -> None:
    run(f"""
        def test_reset(hugepool_host):
            host, client = hugepool_host, hugepool_host.client
            before, console = client.host(host.name), client.dmesg(host.name)
            client.create_host("other", {{"nodes": [{{"memory": "1G"}}]}})
            client.resize("other", "2048kB", 4)
            host.write("{POOL}", "8")
            client.set_fault(host.name, "vmemmap-restore", {{"times": -1}})
            client.start_task(host.name, {{"kind": "hugetlb", "count": 8, "touch": 2}})
            for _ in range(2):
                host.reset()
                found = client.host(host.name)
                assert found.pop("created_at") >= before["created_at"]
                assert found == {{name: before[name] for name in found}}
                assert list(client.tasks(host.name)) == []
                assert client.dmesg(host.name) == console
                assert client.resize(host.name, "2048kB", 6)["allocated"] == 6
                assert client.resize(host.name, "2048kB", 0)["freed"] == 6
            assert client.hugepages("other", "2048kB")["nr_hugepages"] == 4
    """).assert_outcomes(passed=1)


def test_a_tree_is_written_into_the_folder_of_the_test_and_replaced(run: Run) -> None:
    run(f"""
        import pytest

        @pytest.mark.hugepool(nodes=[{{"memory": "256M"}}])
        def test_tree(hugepool_host, tmp_path):
            tree = hugepool_host.export()
            assert tmp_path in tree.parents
            assert (tree / "proc/meminfo").read_text() == hugepool_host.read("/proc/meminfo")
            hugepool_host.write("{POOL}", "3")
            assert hugepool_host.export() == tree
            assert (tree / "{POOL[1:]}").read_text() == "3\\n"
            assert hugepool_host.export(tmp_path / "mine") == tmp_path / "mine"
            assert (tmp_path / "mine/proc/zoneinfo").exists()
    """).assert_outcomes(passed=1)


def test_a_test_that_deletes_its_host_is_no_error(run: Run) -> None:
    run("""
        def test_delete(hugepool_host):
            hugepool_host.client.delete_host(hugepool_host.name)
    """).assert_outcomes(passed=1)


def test_the_server_is_gone_after_the_run_whatever_became_of_the_tests(
    run: Run, pytester: pytest.Pytester
) -> None:
    result = run(f"""{TELL_PID}
    import pytest

    def test_passes(hugepool_server):
        tell(hugepool_server)

    def test_fails(hugepool_host):
        hugepool_host.client.resize(hugepool_host.name, "2048kB", 8)
        assert False, "as it should"

    @pytest.fixture
    def broken(hugepool_host):
        yield
        raise RuntimeError("as it should")

    def test_broken(broken):
        pass

    def test_no_host_is_left(hugepool_server):
        assert [h["name"] for h in hugepool_server.client.hosts() if not h["name"].startswith("booted-")] == []
    """)
    result.assert_outcomes(passed=3, failed=1, errors=1)
    (pid,) = servers(pytester.path)
    assert not is_alive(pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_interrupted_or_killed_leaves_no_server(
    pytester: pytest.Pytester, number: signal.Signals
) -> None:
    pytester.makepyfile(f"""{TELL_PID}
    import signal
    import time

    signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs the tests in the background ignores it

    def test_waits(hugepool_host, hugepool_server):
        tell(hugepool_server)
        time.sleep({PATIENCE_SECONDS})
    """)
    command = [sys.executable, "-m", "pytest", *ARGUMENTS]
    with subprocess.Popen(
        command, cwd=pytester.path, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            wait_until(lambda: servers(pytester.path))
            os.killpg(process.pid, number)  # as a terminal does
            out, _ = process.communicate(timeout=PATIENCE_SECONDS)
        finally:
            process.kill()
    assert b"rror" not in out
    (pid,) = servers(pytester.path)
    wait_until(lambda: not is_alive(pid))


def wait_until(condition: Callable[[], object]) -> None:
    """Until something is true, or the patience ends."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_server_that_does_not_come_up_is_reported_with_what_it_said(run: Run) -> None:
    result = run("""
        import pytest
        from hugepool.harness import server

        @pytest.fixture(autouse=True, scope="session")
        def no_database():
            server.LOOPBACK = "192.0.2.1"  # an address that no machine has

        def test_never(hugepool_host):
            raise AssertionError("it ran")
    """)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*hugepool serve ended with status * before it was ready:*", "*192.0.2.1*"])
    result.stdout.no_fnmatch_line("*it ran*")


def test_settings_of_the_environment_do_not_reach_the_server(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HUGEPOOL_LOG_LEVEL", "loud")
    monkeypatch.setenv("HUGEPOOL_DATABASE_URL", "sqlite:////nosuch/folder/pool.db")
    run("def test_up(hugepool_host): assert hugepool_host.pool()").assert_outcomes(passed=1)


def test_a_run_that_uses_no_fixture_starts_nothing_and_imports_nothing(run: Run) -> None:
    run("""
        import os
        import sys
        from pathlib import Path

        def test_modules(pytestconfig):
            assert pytestconfig.pluginmanager.has_plugin("hugepool")
            loaded = {name for name in sys.modules if name.split(".")[0] in {"hugepool", "httpx", "numpy", "fastapi"}}
            assert loaded == {"hugepool", "hugepool.pytest_plugin"}

        def test_children():
            assert Path(f"/proc/self/task/{os.getpid()}/children").read_text() == ""
    """).assert_outcomes(passed=2)


def test_a_marker_names_a_state_on_its_machine_or_another(run: Run) -> None:
    run("""
        import pytest

        @pytest.mark.hugepool(state="surplus-stuck")
        def test_stuck(hugepool_host):
            hugepool_host.assert_pool(nr=64, free=64, surplus=64, max_huge_pages=0)
            hugepool_host.write("/proc/sys/vm/nr_hugepages", "3\\n")
            hugepool_host.reset()
            hugepool_host.assert_pool(nr=64)
            assert hugepool_host.client.host(hugepool_host.name)["kernel"] == "5.14"

        @pytest.mark.hugepool(state="surplus-stuck", kernel="6.1")
        def test_on_the_default_machine(hugepool_host):
            hugepool_host.assert_pool(surplus=64)
            assert hugepool_host.client.host(hugepool_host.name)["kernel"] == "6.1"

        @pytest.mark.hugepool(state="starved", spec={"nodes": [{"memory": "8G"}]})
        def test_on_another(hugepool_host):
            hugepool_host.assert_pool(nr=3900)
    """).assert_outcomes(passed=3)


def test_a_pool_that_differs_is_shown_counter_by_counter_and_the_host_is_in_the_report(run: Run) -> None:
    result = run(f"""
        def test_it(hugepool_host):
            hugepool_host.write("{POOL}", "8\\n")
            hugepool_host.client.set_fault(hugepool_host.name, "vmemmap-restore", {{"times": 2}})
            hugepool_host.assert_pool(nr=8, free=8, node=None)
            hugepool_host.assert_pool(nr=4, free=4, node=0)
            hugepool_host.assert_pool(nr=9, free=8, surplus=1)

        def test_misuse(hugepool_host):
            hugepool_host.assert_pool(used=3)

        def test_a_list(hugepool_host):
            hugepool_host.exec(["ls", "-l"])

        def test_gone(hugepool_host):
            hugepool_host.client.delete_host(hugepool_host.name)
            assert False
    """)
    result.assert_outcomes(failed=4)
    result.stdout.fnmatch_lines(
        [
            "*AssertionError: the pool 2048kB of host-1 is not as expected",
            "E *nr_hugepages * 8   expected 9",
            "E *free_hugepages * 8",
            "E *surplus_hugepages * 0   expected 1",
            "*hugepool_host host-1*",
            "kernel 6.12, revision *",
            "2048kB nr_hugepages=8 free_hugepages=8 *",
            "fault vmemmap-restore is armed",
            "*TypeError: a pool has no counter used; it has *",
            "*TypeError: exec takes the program and its arguments one by one*",
            "is not to be seen any more: *no host 'host-4'",
        ]
    )


def test_all_workers_of_a_run_share_one_service_that_ends_with_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(f"""{TELL_PID}
    import pytest

    @pytest.mark.parametrize("number", range(8))
    def test_it(hugepool_host, hugepool_server, number, worker_id):
        Path(f"name-{{hugepool_host.name}}").write_text("")
        assert hugepool_host.name.startswith(f"host-{{worker_id}}-")
        hugepool_host.write("{POOL}", str(number))
        tell(hugepool_server)
        hugepool_host.assert_pool(nr=number)
    """)
    result = pytester.runpytest_subprocess(*ARGUMENTS, "-n", "3", timeout=PATIENCE_SECONDS)
    result.assert_outcomes(passed=8)
    (server,) = servers(pytester.path)
    assert len(list(pytester.path.glob("name-*"))) == 8
    deadline = time.monotonic() + PATIENCE_SECONDS
    while is_alive(server):
        assert time.monotonic() < deadline
        time.sleep(0.05)
