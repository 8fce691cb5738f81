#!/usr/bin/env bash
# Preallocation or overcommit: how many programs fail, and what does it cost while nobody runs?
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./common.bash

ask /what-if '{"host": {"spec": {"kernel": "6.1", "nodes": [{"memory": "4G", "cpus": 4}]}}, "steps": [
    {"resize": {"count": 0}},
    {"overcommit": {"count": 0}},
    {"task": {"kind": "anon", "memory": "2G"}, "label": "others"},
    {"task": {"kind": "hugetlb", "count": 300, "touch": 300, "noreserve": true}},
    {"task": {"kind": "hugetlb", "count": 300, "touch": 300, "noreserve": true}},
    {"task": {"kind": "hugetlb", "count": 300, "touch": 300, "noreserve": true}}],
  "variants": {"list": [
    {"steps.0.resize.count": 900}, {"steps.1.overcommit.count": 900},
    {"steps.0.resize.count": 300, "steps.1.overcommit.count": 600}]}}'
field '"\n".join("pool {:3}, overcommit {:3}: the others {}; programs: {}".format(
    v["values"].get("steps.0.resize.count", 0), v["values"].get("steps.1.overcommit.count", 0),
    v["steps"][2]["errno"] or "fit", ", ".join(s["errno"] or s["signal"] or "ok" for s in v["steps"][3:]))
    for v in d["variants"])'
