#!/usr/bin/env bash
# A database in a pod is killed by SIGBUS although the node has hundreds of free huge pages.
#
# The kubelet writes a pod's limit of hugepages-2Mi to hugetlb.2MB.max of its cgroup; 0 if the pod asks for none.  That
# limit is met at the touch, not at mmap: a program that tries huge pages gets them promised, and dies when it uses
# them.  With hugetlb.2MB.rsvd.max it is refused at mmap and can go on with small pages.
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./common.bash

host=example-07
pod=kubepods.slice/pod-7f3a
boot $host '{"kernel": "6.1", "nodes": [{"memory": "4G", "cpus": 4}]}'

group() { # what the pod's cgroup counts
    must GET "/$host/cgroups/$pod"
    field '"    {current} charged, {rsvd_current} reserved, events: max {events_max}".format(**d["hugetlb"]["2048kB"])'
}

database() { # COUNT STEP: a database maps its buffers and uses them
    request POST /$host/tasks "{\"kind\": \"hugetlb\", \"comm\": \"postgres\", \"count\": $1, \"touch\": $1,
        \"shared\": true, \"cgroup\": \"$pod\"}"
    local said
    said=$(field '"    {}; {} pages touched".format(
        "{errno}, {reason}: {file} is {limit}".format(**d) if "errno" in d
        else "{signal}, {reason}: {facts[file]} is {facts[limit]}".format(**d) if d["signal"] else "it runs",
        d.get("touched", 0))')
    row $host "$2"
    echo "$said"
}

heading
resize $host 512 'the node has 512 huge pages'

request PUT "/$host/cgroups/$pod" '{"hugetlb": {"2048kB": {"max": 256}}}'
row $host 'hugepages-2Mi: 512Mi, the limit of the pod'
database 300 'buffers of 300 pages: promised, then SIGBUS'
group
must DELETE "/$host/tasks/$(field 'd["tasks"][0]')"

database 200 'buffers of 200 pages fit'
group
request PUT "/$host/cgroups/$pod" '{"hugetlb": {"2048kB": {"max": 100}}}'
row $host 'a lower limit is refused while it runs'
must GET "/$host/cgroups/$pod"
must DELETE "/$host/tasks/$(field 'd["tasks"][0]')"

request PUT "/$host/cgroups/$pod" '{"hugetlb": {"2048kB": {"max": 0}}}'
row $host 'a pod that asks for no huge pages'
database 64 '"try" is no help: mmap succeeds'
must GET "/$host/cgroups/$pod"
must DELETE "/$host/tasks/$(field 'd["tasks"][0]')"

request PUT "/$host/cgroups/$pod" '{"hugetlb": {"2048kB": {"rsvd_max": 0}}}'
row $host 'hugetlb.2MB.rsvd.max 0 as well'
database 64 'mmap is refused: "try" takes small pages'
group

must DELETE /$host
