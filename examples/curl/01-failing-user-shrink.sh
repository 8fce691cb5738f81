#!/usr/bin/env bash
# An administrator shrinks a pool whose vmemmap cannot be restored.
#
# The pages come back as surplus.  Writing the same number again does nothing, as the persistent size is reached
# already: raise the target first, then shrink.  A shell that writes to sysfs sees success at every step; here
# the step that was refused answers 507.
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./common.bash

host=example-01
boot $host '{"kernel": "5.14", "cmdline": "hugetlb_free_vmemmap=on", "nodes": [{"memory": "4G", "cpus": 2}]}'

heading
resize $host 16 'write 16'
must PUT /$host/faults/vmemmap-restore '{"times": -1}'
resize $host 0 'no restore succeeds: write 0'
resize $host 0 'write 0 again: not a retry'
resize $host 16 'write 16: surplus becomes persistent'
resize $host 10 'write 10'
must DELETE /$host/faults/vmemmap-restore
resize $host 5 'restores succeed again: write 5'
resize $host 11 'write 11'
resize $host 5 'write 5'

must DELETE /$host
