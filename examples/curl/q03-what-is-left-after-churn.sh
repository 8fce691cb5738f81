#!/usr/bin/env bash
# After a while of programs that come and go, how many 2 MiB and 1 GiB pages can still be formed?
#
# Histories are drawn from seeds, so that the answer is the same every time; of five of them, the worst and the middle.
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./common.bash

host=question-03
boot $host '{"kernel": "6.1", "nodes": [{"memory": "4G", "cpus": 4}]}'
for share in 0 5 20; do
    ask /hosts/$host/plans/churn '{"rounds": 3, "seeds": 5, "unmovable_percent": '$share'}'
    field '"{unmovable_percent:2} % unmovable: ".format(**d) + "; ".join(
        "{} of {}: {} at worst, {} in the middle".format(size, d["now"][size], rank["p0"], rank["p50"])
        for size, rank in d["after_exit"].items())'
done
must DELETE /$host
