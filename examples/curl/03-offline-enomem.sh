#!/usr/bin/env bash
# A memory block holds nothing but free huge pages, and it cannot go offline: the vmemmap of these pages has to come
# from a kernel zone, and the kernel zones are full.  Gigabytes of free memory in ZONE_MOVABLE are no help.
#
# The huge pages that were dissolved before the refusal are gone from the pool for good.
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./common.bash

host=example-03
boot $host '{"kernel": "5.14", "cmdline": "hugetlb_free_vmemmap=on movablecore=2G",
    "nodes": [{"memory": "6G", "cpus": 4}]}'

state() { # BLOCK WORD STEP: write a block's state; the row, what the answer says, and the block
    request PUT "/$host/memory-blocks/$1/state" "{\"state\": \"$2\"}"
    local said
    said=$(field '"    {}; {} dissolved, {} migrated, {} vmemmap pages restored".format(
        "{errno}, {reason}".format(**d) if "errno" in d else "done",
        r["dissolved"].get("2048kB", 0), r.get("migrated_hugepages", 0), r["vmemmap"]["pages_restored"]
        ) if (r := d.get("result", d)) else ""')
    row $host "$3"
    echo "$said"
    must GET "/$host/memory-blocks/$1"
    field '"    block {block}: {state}, {n} huge pages, {free_pages} pages free".format(
        n=d["hugepages"].get("2048kB", 0), **d)'
}

# 6 GiB with a hole below 4 GiB end with block 55, and the upper 2 GiB are movable: block 40 is the first of them.
heading
resize $host 100 'write 100: 64 of them lie in block 40'
must GET /$host/memory-blocks/40
field '"    block 40: {zone}, {n} huge pages".format(n=d["hugepages"]["2048kB"], **d)'

# A driver takes the kernel zones.  A request for too much is refused and says how much there is; all but 125 pages
# are taken.  They pay for 20 huge pages, 6 pages each, and not for one more.
request POST /$host/tasks '{"kind": "kernel", "memory": "8G"}'
left=$(field 'd["pages_available"]')
must POST /$host/tasks "{\"kind\": \"kernel\", \"memory\": $(((left - 125) * 4096))}"
pid=$(field 'd["pid"]')
row $host 'a driver fills the kernel zones'
must GET /$host
echo "    $(field 'd["memory"]["free_pages"]') pages are free on the machine"

state 40 offline 'offline'
state 40 offline 'offline again'
must DELETE "/$host/tasks/$pid"
state 40 offline 'the driver ends: offline'
state 40 online_movable 'online_movable: the pool stays small'

# Huge pages in use are migrated before any is dissolved, to free pages of the pool while there are any: even to one
# in the same block.  A kernel goes on until it gets a signal.
must POST /$host/tasks '{"kind": "hugetlb", "size": "2048kB", "count": 10, "touch": 10}'
row $host 'an application touches 10'
state 41 offline 'offline of the block they are in'

must DELETE /$host
