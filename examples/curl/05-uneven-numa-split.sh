#!/usr/bin/env bash
# Two nodes of 3 and 1 GiB: a pool for all nodes is split evenly until the small node is full.
#
# Then the small node is short of kernel memory, and its pages cannot be given back: until 6.6 the vmemmap of a
# huge page is restored from its own node only, however much the other one has.  6.12 takes it from there.
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./common.bash

per_node() {
    must GET "/$host/$POOL"
    field '"    " + "; ".join("node {node}: {nr_hugepages}, surplus {surplus_hugepages}".format(**n)
        for n in d["nodes"])'
}

for kernel in 5.14 6.12; do
    host=example-05-${kernel/./-}
    boot "$host" "{\"kernel\": \"$kernel\", \"cmdline\": \"hugetlb_free_vmemmap=on\",
        \"nodes\": [{\"memory\": \"3G\", \"cpus\": 2}, {\"memory\": \"1G\", \"cpus\": 2}]}"
    echo "kernel $kernel"
    heading
    resize "$host" 800 'write 800'
    per_node
    resize "$host" 1200 'write 1200'
    per_node

    request POST "/$host/tasks" \
        '{"kind": "hugetlb", "size": "2048kB", "count": 600, "policy": {"bind": [1]}}'
    row "$host" 'a VM of 600 pages, bound to node 1'

    # A driver takes all kernel memory that node 1 has left: a request for more is refused and says how much.
    while request POST "/$host/tasks" '{"kind": "kernel", "memory": "1G", "node": 1}' \
        && left=$(field 'd["pages_available"]') && ((left)); do
        must POST "/$host/tasks" "{\"kind\": \"kernel\", \"memory\": $((left * 4096)), \"node\": 1}"
    done

    resize "$host" 0 'node 1 has no kernel memory left: write 0'
    per_node
    must DELETE "/$host"
done
