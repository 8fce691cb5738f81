#!/usr/bin/env bash
# How much does vmemmap freeing save for N pages, and what must stay free so that the pool can be shrunk again?
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./common.bash

for cmdline in '' 'movablecore=12G'; do
    host=question-05
    boot $host '{"kernel": "6.1", "cmdline": "hugetlb_free_vmemmap=on '$cmdline'", "nodes": [{"memory": "16G", "cpus": 8}]}'
    ask /hosts/$host/plans/savings '{"count": 4096}'
    echo "8 GiB of huge pages, ${cmdline:-no ZONE_MOVABLE}"
    field '"  saved: {:.1f} MiB less {} KiB of page tables".format(
        d["gross_bytes"] / 2**20, d["page_table_bytes"] // 1024)'
    field '"  it lands in " + ", ".join("{zone}".format(**z) for z in d["nodes"][0]["zones"] if z["net_bytes"] > 0)'
    must PUT "/$host/$POOL/nr_hugepages" '{"count": 4096}'
    ask /hosts/$host/plans/headroom '{}'
    field '"  must stay free to give all back: {} KiB".format(d["domains"][0]["needed_bytes"] // 1024)'
    must DELETE /$host
done
