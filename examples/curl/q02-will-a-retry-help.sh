#!/usr/bin/env bash
# The pool fell short. Will a retry or a cache drop reach N, or is a reboot needed?
#
# A retry sees the same memory: clean page cache was given up and movable memory compacted by the first write already, so
# that drop_caches and compact_memory gain nothing. Programs that end give theirs back; what a driver holds stays in the way
# until a boot takes the pages first. Between dust of kernel memory a real kernel gives up sooner, and a drop helps it.
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./common.bash

N=1800
ask /what-if '{"host": {"spec": {"kernel": "6.1", "nodes": [{"memory": "4G", "cpus": 4}]}}, "steps": [
    {"task": {"kind": "anon", "memory": "1G"}, "label": "program"},
    {"task": {"kind": "kernel", "memory": "200M"}, "label": "driver"},
    {"task": {"kind": "cache", "memory": "2G"}, "label": "files"},
    {"resize": {"count": '$N'}, "label": "write '$N'"},
    {"resize": {"count": '$N'}, "label": "write it again"},
    {"write": "/proc/sys/vm/drop_caches", "data": "3", "label": "drop the caches"},
    {"write": "/proc/sys/vm/compact_memory", "data": "1", "label": "compact the memory"},
    {"resize": {"count": '$N'}, "label": "and write it again"},
    {"exit": "program", "label": "the program ends"},
    {"resize": {"count": '$N'}, "label": "and once more"}]}'
field '"\n".join("{:22} {:5} pages".format(s["label"], s["counters"]["2048kB"]["nr_hugepages"]) for s in d["steps"][3:])'

ask /what-if '{"host": {"spec": {"kernel": "6.1", "cmdline": "hugepages='$N'", "nodes": [{"memory": "4G", "cpus": 4}]}},
    "steps": [{"read": "/proc/sys/vm/nr_hugepages"}]}'
field '"{:22} {:>5} pages".format("a boot with hugepages=", d["steps"][0]["result"]["content"].strip())'
