"""HEAD and OPTIONS, sizes as people write them, and the newest lines of the console."""

import pytest

from tests.api.conftest import NR, Api, HostApi, refused


@pytest.fixture
def host(api: Api) -> HostApi:
    """A host of 1 GiB."""
    return api.boot("1G")


@pytest.mark.parametrize("path", ["", "/hugepages/2048kB", "/fs/proc/meminfo", "/dmesg"])
def test_head_is_get_without_a_body(api: Api, host: HostApi, path: str) -> None:
    got, head = (api.ask(method, f"{host.path}{path}") for method in ("GET", "HEAD"))
    assert (head.status_code, head.content) == (200, b"")
    for name in ("etag", "content-type", "content-length"):
        assert head.headers[name] == got.headers[name]
    assert api.ask("HEAD", "/v1/hosts").status_code == 200


def test_head_of_a_stream_ends(api: Api, host: HostApi) -> None:
    head = api.ask("HEAD", f"{host.path}/events/stream")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"].startswith("text/event-stream")


def test_head_of_nothing_and_of_a_change_is_refused_without_a_body(api: Api, host: HostApi) -> None:
    async def ask(path: str) -> tuple[int, bytes]:
        answer = await api.client.head(path)
        return answer.status_code, answer.content

    assert api.portal.call(ask, "/v1/hosts/nosuch") == (404, b"")
    before = host.everything()
    assert api.portal.call(ask, f"{host.path}/{NR}")[0] == 405
    assert host.everything() == before


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("", "DELETE, GET, HEAD, OPTIONS, PATCH"),
        (f"/{NR}", "OPTIONS, PUT"),
        ("/fs/proc/meminfo", "GET, HEAD, OPTIONS, PUT"),
    ],
)
def test_options_and_405_name_the_methods_there_are(api: Api, host: HostApi, path: str, allow: str) -> None:
    answer = api.ask("OPTIONS", f"{host.path}{path}")
    assert (answer.status_code, answer.headers["allow"], answer.content) == (204, allow, b"")
    assert api.ask("TRACE", f"{host.path}{path}").headers["allow"] == allow


def test_options_of_no_address_is_404(api: Api) -> None:
    refused(api.ask("OPTIONS", "/v1/nosuch"), 404, "ENOENT")


# -- sizes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["2M", "2Mi", "2048kB"])
def test_a_huge_page_size_has_a_short_word(host: HostApi, word: str) -> None:
    done = host.put(f"hugepages/{word}/nr_hugepages", {"count": 3})
    assert done.status_code == 200
    assert host.get(f"hugepages/{word}")["size"] == "2048kB"
    task = host.post("tasks", {"kind": "hugetlb", "size": word, "count": 1})
    assert task.status_code == 201, task.text


@pytest.mark.parametrize(("text", "mib"), [("1Gi", 1024), ("1G", 1024), ("256Mi", 256), ("262144Ki", 256)])
def test_sizes_may_have_binary_prefixes(api: Api, text: str, mib: int) -> None:
    host = api.boot(text)
    present = sum(zone["present"] for zone in host.get()["zones"])
    assert mib * 256 * 0.98 <= present <= mib * 256


@pytest.mark.parametrize("text", ["1gi", "1GiB", "Gi", "0x10Gi", "1 Gi", "1GI", "1Pi"])
def test_what_is_no_size_is_refused(api: Api, text: str) -> None:
    refused(api.post("/v1/hosts", {"name": "odd", "spec": {"nodes": [{"memory": text}]}}), 422, "EINVAL")
    assert api.get("/v1/hosts/odd").status_code == 404


@pytest.mark.parametrize("word", ["2m", "4M", "1GB", "2MB"])
def test_what_is_no_huge_page_size_is_refused(host: HostApi, word: str) -> None:
    before = host.everything()
    refused(host.put(f"hugepages/{word}/nr_hugepages", {"count": 3}), 404, "ENOENT")
    refused(host.post("tasks", {"kind": "hugetlb", "size": word, "count": 1}), 422, "EINVAL")
    assert host.everything() == before


# -- the console -------------------------------------------------------------------------------------------


def test_the_console_shows_its_newest_lines(host: HostApi) -> None:
    lines = host.get("dmesg")["lines"]
    assert len(lines) > 2
    assert host.get("dmesg?limit=2")["lines"] == lines[-2:]
    refused(host.ask("GET", "dmesg?limit=0"), 422, "EINVAL")
