#!/usr/bin/env bash
# 1 GiB pages: from a CMA area, at boot, or when they are needed? What is had after churn, and what lies idle before?
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./common.bash

for cmdline in '' hugetlb_cma=4G 'hugepagesz=1G hugepages=4'; do
    host='{"spec": {"kernel": "6.1", "cmdline": "'$cmdline'", "nodes": [{"memory": "12G", "cpus": 4}]}}'
    echo "${cmdline:-when they are needed}"
    ask /what-if '{"host": '"$host"', "steps": [
        {"task": {"kind": "anon", "memory": "9G"}, "label": "programs"}, {"exit": 1000},
        {"task": {"kind": "kernel", "memory": "9G"}, "label": "drivers"}]}'
    field '"    9 GiB while they lie idle: " + ", ".join("{} {}".format(s["label"], s["errno"] or "fit")
        for s in d["steps"] if s["label"])'
    ask /what-if '{"host": '"$host"', "steps": [
        {"task": {"kind": "anon", "memory": "1900M"}}, {"task": {"kind": "kernel", "memory": "30M"}},
        {"task": {"kind": "anon", "memory": "1900M"}}, {"task": {"kind": "kernel", "memory": "30M"}},
        {"task": {"kind": "anon", "memory": "1900M"}}, {"task": {"kind": "kernel", "memory": "30M"}},
        {"exit": 1000}, {"exit": 1002}, {"exit": 1004},
        {"resize": {"size": "1048576kB", "count": 8}}]}'
    field '"    after churn: {nr_hugepages} pages of 1 GiB".format(**d["steps"][-1]["counters"]["1048576kB"])'
done
