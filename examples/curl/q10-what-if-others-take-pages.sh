#!/usr/bin/env bash
# If another user takes M pages unseen, which placements fail?
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./common.bash

ask /what-if '{"host": {"spec": {"kernel": "6.1", "nodes": [{"memory": "4G", "cpus": 4}, {"memory": "4G", "cpus": 4}]}},
  "steps": [
    {"resize": {"count": 2000}},
    {"task": {"kind": "hugetlb", "count": 1, "touch": 1, "policy": {"preferred": [1]}}, "label": "the other"},
    {"task": {"kind": "hugetlb", "count": 700, "policy": {"bind": [0]}}, "label": "VM 0"},
    {"task": {"kind": "hugetlb", "count": 700, "policy": {"bind": [1]}}, "label": "VM 1"},
    {"task": {"kind": "hugetlb", "count": 500}, "label": "VM anywhere"}],
  "variants": {"list": [
    {"steps.1.task.count": 1}, {"steps.1.task.count": 200, "steps.1.task.touch": 200},
    {"steps.1.task.count": 400, "steps.1.task.touch": 400}, {"steps.1.task.count": 700, "steps.1.task.touch": 700}]}}'
field '"\n".join("{:3} pages gone: ".format(v["values"]["steps.1.task.count"]) + ", ".join(
    "{} {}".format(name, s["errno"] or "fits") for name, s in zip(("VM 0", "VM 1", "VM anywhere"), v["steps"][2:]))
    for v in d["variants"])'
