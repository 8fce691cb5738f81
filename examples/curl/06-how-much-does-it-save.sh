#!/usr/bin/env bash
# What vmemmap freeing saves: the same pool on two machines, one booted with the feature, one without; and, on a
# copy, what giving the pool back takes again.
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./common.bash

memory() { # HOST: MemTotal and MemFree
    must GET "/$1"
    echo "    MemTotal $(field 'd["memory"]["managed_pages"]') pages, MemFree $(field 'd["memory"]["free_pages"]')"
}
vmemmap() { # HOST
    must GET "/$1/vmemmap?limit=1"
    field '"    {pages_freed} vmemmap pages freed, {page_table_pages} page tables paid, {bytes_saved} bytes saved".format(**d)'
}

heading
for feature in off on; do
    host=example-06-$feature
    boot $host "{\"kernel\": \"5.14\", \"cmdline\": \"hugetlb_free_vmemmap=$feature\",
        \"nodes\": [{\"memory\": \"64G\", \"cpus\": 16}]}"
    row $host "$feature: just booted"
    memory $host
    resize $host 16384 "$feature: write 16384 (32 GiB)"
    memory $host
    vmemmap $host
done

request DELETE /example-06-copy
must POST '' '{"name": "example-06-copy", "fork_of": "example-06-on"}'
resize example-06-copy 0 'copy of on: write 0'
memory example-06-copy
vmemmap example-06-copy

for name in off on copy; do must DELETE /example-06-$name; done
