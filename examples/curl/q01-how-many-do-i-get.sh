#!/usr/bin/env bash
# If I write N now, how many pages do I get, on which nodes, and what stops the rest?
cd "$(dirname "${BASH_SOURCE[0]}")"
source ./common.bash

host=question-01
boot $host '{"kernel": "6.1", "nodes": [{"memory": "8G", "cpus": 4}, {"memory": "4G", "cpus": 4}]}'

must PUT "/$host/$POOL/nr_hugepages?dry_run=true" '{"count": 6000}' # answered in full, stored nowhere
field '"6000 asked: {} would be made".format(d["after"]["nr_hugepages"])'
field '"\n".join("  node {node}: {allocated}".format(**n) for n in d["nodes"])'
field '"  the rest: " + "; ".join("node {node}, {reason}".format(**n) for n in d["shortfall"]["nodes"])'
must GET "/$host/$POOL"
field '"the pool has {nr_hugepages} pages, as before".format(**d)'

must DELETE /$host
