#!/usr/bin/env bash
# An application gives surplus pages back, and the kernel's worker cannot restore their vmemmap.
#
# The pages are gone from every counter at exit and come back, free, when the worker has failed.  They can be used
# like any other page; each time one is freed, the kernel tries again.
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./common.bash

host=example-02
boot $host '{"kernel": "5.14", "cmdline": "hugetlb_free_vmemmap=on", "nodes": [{"memory": "4G", "cpus": 2}]}'
must PUT /$host/deferred-frees '{"mode": "manual"}' # the worker runs when this script says so

overcommit() {
    request PUT "/$host/$POOL/nr_overcommit_hugepages" "{\"count\": $1}"
    row $host "nr_overcommit_hugepages = $1"
}
start() { # PAGES TOUCHED NORESERVE STEP
    request POST /$host/tasks \
        "{\"kind\": \"hugetlb\", \"size\": \"2048kB\", \"count\": $1, \"touch\": $2, \"noreserve\": $3}"
    if [[ $status == 201 ]]; then pid=$(field 'd["pid"]'); else echo "mmap: $(field 'd["title"]')"; fi
    row $host "$4"
}
stop() { # STEP
    request DELETE "/$host/tasks/$pid"
    row $host "$1"
}
drain() {
    request POST /$host/deferred-frees/drain
    row $host "the worker runs: $(field 'd["freed"]') freed, $(field 'd["returned_as_surplus"]') came back"
}

heading
overcommit 5
start 5 5 true 'an application touches 5, unreserved'
must PUT /$host/faults/vmemmap-restore '{"times": -1}' # from now on no restore succeeds
stop 'it exits; 5 pages wait for the worker'
drain
overcommit 0
start 5 5 true 'the application again, on the stuck pages'
stop 'it exits'
drain
start 5 0 false 'it maps 5 and touches none'
stop 'it exits: unused surplus is tried and stays'
start 6 0 false 'it maps 6'
must DELETE /$host/faults/vmemmap-restore # memory is back
start 5 0 false 'memory is back: it maps 5'
stop 'it exits: the surplus goes at last'

must DELETE /$host
