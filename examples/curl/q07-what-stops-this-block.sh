#!/usr/bin/env bash
# Can memory block k go offline with the current pool, and which page stops it?
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./common.bash

host=question-07
boot $host '{"kernel": "6.1", "cmdline": "hugetlb_free_vmemmap=on movablecore=1G", "nodes": [{"memory": "3G", "cpus": 4}]}'
must PUT "/$host/$POOL/nr_hugepages" '{"count": 100}'
must POST /$host/tasks '{"kind": "kernel", "memory": "600M"}'
for block in 2 10 16 23; do
    must GET /$host/memory-blocks/$block/blockers
    field '"block {block:2}: {}; {huge} free huge pages, {movable_pages} pages to move".format(
        "can go" if d["can_offline"] else "{errno}, {reason}: {detail}".format(**d), huge=d["hugepages"][0]["free"], **d)'
done
ask /hosts/$host/plans/offline '{"memory": "512M"}'
field '"512 MiB back: blocks {blocks}, {hugepages_lost} huge pages lost".format(**d["together"])'
must DELETE /$host
