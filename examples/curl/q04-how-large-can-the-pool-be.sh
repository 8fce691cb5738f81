#!/usr/bin/env bash
# What share of the memory can be huge pages before the system starves?
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./common.bash

host=question-04
boot $host '{"kernel": "6.1", "nodes": [{"memory": "16G", "cpus": 8}, {"memory": "16G", "cpus": 8}]}'
for keep in 1G 2G 4G; do
    ask /hosts/$host/plans/max-pool '{"keep": "'$keep'"}'
    field '"keep '$keep': {} pages, {:.1f} % of 32 GiB; one more leaves {:.3f} GiB".format(
        d["pool"]["nr_hugepages"], d["pool"]["nr_hugepages"] / 16384 * 100, d["pool"]["one_more"]["available_bytes"] / 2**30)'
done
must DELETE /$host
