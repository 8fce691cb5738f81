#!/usr/bin/env bash
# Demote K pages of 1 GiB: what results, and what is freed or needed for their vmemmap?
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./common.bash

host=question-13
boot $host '{"kernel": "6.1", "cmdline": "hugetlb_free_vmemmap=on hugepagesz=1G hugepages=4",
    "nodes": [{"memory": "12G", "cpus": 4}]}'
must POST "/$host/hugepages/1048576kB/demote?dry_run=true" '{"count": 2}'
field '"2 of 4 pages demoted: {demoted}; vmemmap pages taken {vmemmap[pages_restored]}, freed {vmemmap[pages_freed]}".format(**d)'
must POST "/$host/hugepages/1048576kB/demote" '{"count": 2}'
for size in 1048576kB 2048kB; do
    must GET "/$host/hugepages/$size"
    field '"{size}: {nr_hugepages} pages, {optimized_hugepages} of them optimised".format(**d)'
done
must DELETE /$host
