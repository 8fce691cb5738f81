"""The vmemmap, memory blocks and pages: what the engine's state looks like from outside."""

import pytest

from tests.api.conftest import NR, Api, HostApi, refused


def test_the_rows_of_the_vmemmap_add_up_to_its_totals(host: HostApi) -> None:
    host.put(NR, {"count": 100})
    body = host.get("vmemmap")
    assert (body["sections"], len(body["items"]), body["next_cursor"]) == (8, 8, None)
    assert sum(row["pages_freed"] for row in body["items"]) == body["pages_freed"] == 600
    assert sum(row["optimized_hugepages"] for row in body["items"]) == 100
    assert sum(row["mapping"] == "pte" for row in body["items"]) == body["sections_split"]
    assert body["bytes_saved"] == (body["pages_freed"] - body["page_table_pages"]) * 4096
    assert host.get()["vmemmap"] == {key: body[key] for key in host.get()["vmemmap"]}


def test_the_vmemmap_is_listed_in_pages(host: HostApi) -> None:
    whole = host.get("vmemmap")["items"]
    first = host.get("vmemmap", params={"limit": 5})
    second = host.get("vmemmap", params={"limit": 5, "cursor": first["next_cursor"]})
    assert first["items"] + second["items"] == whole
    assert second["next_cursor"] is None


def test_a_page_table_is_reported_in_runs_that_cover_all_its_entries(host: HostApi) -> None:
    host.put(NR, {"count": 100})
    rows = host.get("vmemmap")["items"]
    split = next(row["section"] for row in rows if row["mapping"] == "pte")
    body = host.get(f"vmemmap/{split}")
    covered = [run["first_page"] + i for run in body["runs"] for i in range(run["nr_pages"])]
    assert covered == list(range(512))
    shared = sum(run["nr_pages"] for run in body["runs"] if not run["writable"])
    assert shared == body["pages_freed"]
    whole = next(row["section"] for row in rows if row["mapping"] == "pmd")
    body = host.get(f"vmemmap/{whole}")
    assert [run["nr_pages"] for run in body["runs"]] == [512]
    assert body["page_table_pfn"] is None


def test_a_page_walks_to_its_struct_page(host: HostApi) -> None:
    host.put(NR, {"count": 4})
    section = next(row["section"] for row in host.get("vmemmap")["items"] if row["optimized_hugepages"])
    found = {}
    for pfn in range(section * 32768, (section + 1) * 32768, 512):
        page = host.get(f"pages/{pfn}")
        found[page["use"]] = page
    page = found["hugetlb"]
    assert page.keys() >= {
        "pfn", "node", "zone", "section", "block", "pageblock_migratetype", "use", "struct_page",
    }  # fmt: skip
    assert page["hugepage"] == {
        "size": "2048kB", "head_pfn": page["pfn"], "free": True, "optimized": True, "queued": False, "pid": None,
        "file": None, "cgroup": None,
    }  # fmt: skip
    head, tail = page["struct_page"], host.get(f"pages/{page['pfn'] + 511}")["struct_page"]
    assert int(head["virtual_address"], 16) == 0xFFFFEA0000000000 + page["pfn"] * 64
    assert (head["mapping"], head["writable"], tail["writable"]) == ("pte", True, False)
    assert tail["pfn"] == head["pfn"] + 1
    assert host.get(f"pages/{head['pfn']}")["use"] == "vmemmap"


def test_a_free_page_shows_its_buddy_block(host: HostApi) -> None:
    page = host.get("pages/100352")
    assert (page["use"], page["buddy"]) == ("buddy", {"order": 10, "head_pfn": 100352})


def test_a_task_is_named_at_its_pages(host: HostApi) -> None:
    host.put(NR, {"count": 1})
    pid = host.post("tasks", {"kind": "hugetlb", "count": 1, "touch": 1}).json()["pid"]
    owners = [host.get(f"pages/{pfn}") for pfn in range(0, 262144, 512)]
    assert [page["hugepage"]["pid"] for page in owners if page["use"] == "hugetlb"] == [pid]


@pytest.mark.parametrize("number", ["8", "-1", str(10**40)])
def test_beyond_memory_there_is_nothing(host: HostApi, number: str) -> None:
    with host.nothing_changes():
        refused(host.ask("GET", f"vmemmap/{number}"), 404, "ENOENT")
        refused(host.ask("GET", f"memory-blocks/{number}"), 404, "ENOENT")
        pfn = "262144" if number == "8" else number
        refused(host.ask("GET", f"pages/{pfn}"), 404, "ENOENT")


@pytest.mark.parametrize("path", ["vmemmap/x", "pages/1.5", "memory-blocks/0x8"])
def test_what_is_no_number_is_refused(host: HostApi, path: str) -> None:
    refused(host.ask("GET", path), 422, "EINVAL")


def test_memory_blocks_add_up_to_the_host(host: HostApi) -> None:
    host.put(NR, {"count": 100})
    body = host.get("memory-blocks")
    assert body["next_cursor"] is None
    assert [row["block"] for row in body["items"]] == list(range(8))
    assert sum(row["hugepages"]["2048kB"] for row in body["items"]) == 100
    assert sum(row["free_pages"] for row in body["items"]) == host.get()["memory"]["free_pages"]
    one = host.get("memory-blocks/2")
    assert one == body["items"][2]
    assert one.keys() == {
        "block", "phys_index", "state", "node", "zone", "valid_zones", "removable", "start_pfn", "nr_pages",
        "free_pages", "hugepages", "device",
    }  # fmt: skip
    assert (one["phys_index"], one["state"], one["zone"], one["valid_zones"]) == (
        "00000002", "online", "DMA32", "DMA32",
    )  # fmt: skip
    assert (body["items"][0]["zone"], body["items"][0]["valid_zones"]) == (None, "none")
    pages = host.get("memory-blocks", params={"limit": 3})
    rest = host.get("memory-blocks", params={"limit": 9, "cursor": pages["next_cursor"]})
    assert pages["items"] + rest["items"] == body["items"]


def test_a_gigantic_page_is_seen_from_each_of_its_sections(api: Api) -> None:
    host = api.boot("4G", cmdline="hugetlb_free_vmemmap=on hugepagesz=1G hugepages=1")
    rows = [row for row in host.get("vmemmap")["items"] if row["optimized_hugepages"]]
    assert len(rows) == 8
    assert sum(row["pages_freed"] for row in rows) == host.get()["vmemmap"]["pages_freed"] == 4094
    block = host.get(f"memory-blocks/{rows[3]['section']}")
    assert block["hugepages"] == {"2048kB": 0, "1048576kB": 1}
    page = host.get(f"pages/{rows[3]['section'] * 32768}")
    assert page["hugepage"]["head_pfn"] == rows[0]["section"] * 32768
