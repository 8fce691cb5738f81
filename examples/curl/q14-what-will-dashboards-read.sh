#!/usr/bin/env bash
# What will MemAvailable, HugePages_* and "used %" read before and after, and which alerts fire falsely?
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./common.bash

ask /what-if '{"host": {"spec": {"kernel": "6.1", "cmdline": "hugetlb_free_vmemmap=on", "nodes": [{"memory": "16G", "cpus": 4}]}},
  "steps": [
    {"read": "/proc/meminfo", "label": "before"},
    {"resize": {"count": 6144}}, {"read": "/proc/meminfo", "label": "a pool of 12 GiB"},
    {"task": {"kind": "hugetlb", "count": 6000, "touch": 6000}}, {"read": "/proc/meminfo", "label": "a VM in it"}]}'
printf '%-18s %10s %12s %6s %7s %7s\n' '' MemTotal MemAvailable used% H_Total H_Free
field '"\n".join("{:18} {:10} {:12} {:5.1f}% {:7} {:7}".format(label, m["MemTotal"], m["MemAvailable"],
    100 - m["MemAvailable"] / m["MemTotal"] * 100, m["HugePages_Total"], m["HugePages_Free"])
    for label, m in ((s["label"], {line.split(":")[0]: int(line.split()[1]) for line in s["result"]["content"].splitlines()})
    for s in d["steps"] if s["step"] == "read"))'
echo '"used" counts the whole pool from the moment it is made: an alert on it fires with no program running,'
echo 'and says nothing of what happens inside. MemTotal itself grows by the vmemmap that is freed.'
