#!/usr/bin/env bash
# Under pressure, does `echo 0 > nr_hugepages` succeed, partly succeed, or leave surplus?
#
# To the shell it always succeeds; what came of it is in the counters. A pool in ZONE_MOVABLE needs kernel memory for
# every page; one in a kernel zone pays for itself, once there is enough for the first page.
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./common.bash

show() { # COMMAND LINE, PAGES that a driver leaves
    local host='{"spec": {"kernel": "6.1", "cmdline": "'$1'", "nodes": [{"memory": "6G", "cpus": 4}]}}' left
    ask /what-if '{"host": '"$host"', "steps": [
        {"resize": {"count": 900}}, {"task": {"kind": "kernel", "memory": "100G"}}]}'
    left=$(field 'd["steps"][1]["facts"]["pages_available"]') # of a request for too much
    ask /what-if '{"host": '"$host"', "steps": [
        {"resize": {"count": 900}},
        {"task": {"kind": "kernel", "memory": '$(((left - $2) * 4096))'}},
        {"write": "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "data": "0"}]}'
    field '"{:38} {:5} | {:7} {:5} {:5}".format("'"$1"'", '"$2"', d["steps"][2]["errno"] or "success",
        d["steps"][2]["counters"]["2048kB"]["nr_hugepages"], d["steps"][2]["counters"]["2048kB"]["surplus_hugepages"])'
}

printf '%-38s %5s | %7s %5s %5s\n' 'command line' left write nr surp
show 'hugetlb_free_vmemmap=on movablecore=4G' 10000
show 'hugetlb_free_vmemmap=on movablecore=4G' 700
show 'hugetlb_free_vmemmap=on' 7
show 'hugetlb_free_vmemmap=on' 6
show 'movablecore=4G' 0
