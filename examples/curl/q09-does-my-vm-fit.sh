#!/usr/bin/env bash
# Can a VM of X GiB bound to node 1 start, after a pool was split over uneven nodes? If not, what must change?
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./common.bash

host=question-09
boot $host '{"kernel": "6.1", "nodes": [{"memory": "8G", "cpus": 4}, {"memory": "4G", "cpus": 4}]}'
must PUT "/$host/$POOL/nr_hugepages" '{"count": 2048}'
must POST /$host/tasks '{"kind": "hugetlb", "size": "2048kB", "count": 800, "policy": {"bind": [1]}}'
for memory in 256M 1G 3G; do
    ask /hosts/$host/plans/placement '{"memory": "'$memory'", "nodes": [1]}'
    field '"'$memory' on node 1: {}; when others touch all they have: {}".format(
        *("fits" if d[when]["fits"] else d[when]["reason"] for when in ("now", "when_touched")))'
    field '("" if d["change"] is None else "    write {write}".format(**d["change"]) if d["change"]["works"]
        else "    no write helps: {missing} pages missing, {limited_by}".format(**d["change"]))'
done
must DELETE /$host
