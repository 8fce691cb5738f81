#!/usr/bin/env bash
# Of a fleet, what share can take a VM of X GiB with 1 GiB pages now, without a reboot?
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./common.bash

X=3
fleet=()
for kib in 0 262144 1048576 4194304 6291456; do # how much a driver holds, from machine to machine
    host=question-15-${#fleet[@]}
    fleet+=("$host")
    boot "$host" '{"kernel": "6.1", "nodes": [{"memory": "8G", "cpus": 4}]}'
    ((kib == 0)) || must POST "/$host/tasks" '{"kind": "kernel", "memory": "'$kib'K"}'
done
can=0
for host in "${fleet[@]}"; do
    ask "/hosts/$host/plans/placement" '{"memory": "'$X'G", "size": "1048576kB"}'
    field '"'"$host"': {}".format("fits" if d["now"]["fits"] else "write {write}".format(**d["change"])
        if d["change"]["works"] else "{missing} of {} pages missing: {limited_by}".format(d["count"], **d["change"]))'
    [[ $(field 'd["now"]["fits"] or d["change"]["works"]') == True ]] && can=$((can + 1))
    must DELETE "/$host"
done
echo "$can of ${#fleet[@]} can take $X GiB"
