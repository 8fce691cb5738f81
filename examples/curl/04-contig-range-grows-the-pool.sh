#!/usr/bin/env bash
# A driver asks for a range of memory in which a free huge page lies (alloc_contig_range, as CMA and virtio-mem do).
#
# The kernel first puts a fresh page into the pool, then frees the old one.  If the vmemmap of the old page cannot be
# restored, it stays, as surplus: every failed try grows the pool by one page, whatever nr_overcommit_hugepages says.
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./common.bash

host=example-04
boot $host '{"kernel": "5.14", "cmdline": "hugetlb_free_vmemmap=on movablecore=512M",
    "nodes": [{"memory": "2G", "cpus": 2}]}'

take() { # START END STEP: ask for a range; the row, and what the answer says
    request POST /$host/contig-ranges "{\"start_pfn\": $1, \"end_pfn\": $2}"
    local said
    said=$(field '"    {}; {} replaced, {} came back as surplus".format(
        "{errno}, {reason}".format(**d) if "errno" in d else "pages {start_pfn} to {end_pfn}, number {id}".format(**d),
        r["replaced_hugepages"], r["refused_hugepages"]) if (r := d.get("result", d)) else ""')
    row $host "$3"
    echo "$said"
}

heading
resize $host 61 'write 61'

# The pool begins in the first movable block.
must GET "/$host/memory-blocks"
pfn=$(field 'next(b["start_pfn"] for b in d["items"] if b["hugepages"].get("2048kB"))')
must GET "/$host/pages/$pfn"
field '"    page {pfn}: {use} in {zone}, free: {free}".format(free=d["hugepage"]["free"], **d)'

must PUT /$host/faults/vmemmap-restore '{"times": -1}' # from now on no restore succeeds
for try in 1 2 3; do
    take "$pfn" $((pfn + 512)) "2 MiB asked for, try $try"
done

# A range that holds 32 of them grows the pool by 32 a try, until the node has no 2 MiB page left.
tries=0
while request POST /$host/contig-ranges "{\"start_pfn\": $pfn, \"end_pfn\": $((pfn + 32 * 512))}" \
    && [[ $(field 'd["errno"]') == EBUSY ]]; do
    tries=$((tries + 1))
done
said=$(field '"    EBUSY '$tries' times, then {errno}, {reason}".format(**d)')
row $host '64 MiB asked for, until it is not EBUSY'
echo "$said"

# The way out: restores that succeed, and a target raised and lowered again.
must DELETE /$host/faults/vmemmap-restore
resize $host 61 'restores succeed again: write 61'
must GET /$host/$POOL
resize $host "$(field 'd["nr_hugepages"]')" 'write the total: surplus becomes persistent'
resize $host 61 'write 61'
take "$pfn" $((pfn + 512)) '2 MiB asked for'

must DELETE /$host
