#!/usr/bin/env bash
# A block was added and cannot go again. Would online_movable have helped, and at what cost for the kernel?
#
# The block's struct pages come from kernel memory either way; a movable block is no help for drivers.
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./common.bash

for word in online_kernel online_movable; do
    ask /what-if '{"host": {"spec": {"kernel": "6.1", "nodes": [{"memory": "2G", "cpus": 4}]}}, "steps": [
        {"read": "/proc/meminfo"},
        {"add_memory": {"node": 0, "memory": "128M"}},
        {"'$word'": 32, "label": "online"},
        {"task": {"kind": "kernel", "memory": "1900M"}, "label": "a driver of 1900M"},
        {"task": {"kind": "kernel", "memory": "100M"}, "label": "one of 100M more"},
        {"offline": 32, "label": "the block goes"}]}'
    field '"'$word': " + ", ".join("{}: {}".format(s["label"], s["errno"] or "ok") for s in d["steps"][3:])'
    field '"    to describe it: {} KiB".format(int(d["steps"][0]["result"]["content"].split()[4])
        - d["steps"][1]["counters"]["memory"]["free_bytes"] // 1024)'
done
