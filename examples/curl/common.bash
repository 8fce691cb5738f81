# Sourced by the scripts beside this file: one request, one row of a table.
set -euo pipefail
HUGEPOOL_URL=${HUGEPOOL_URL:-http://127.0.0.1:8000}
POOL=hugepages/2048kB

# call METHOD PATH [JSON]: the answer's body goes to $answer, its status to $status.
call() {
    local reply
    reply=$(curl --silent --show-error --request "$1" "$HUGEPOOL_URL/v1$2" \
        --header 'Content-Type: application/json' --write-out '\n%{http_code}' ${3:+--data "$3"})
    status=${reply##*$'\n'}
    answer=${reply%$'\n'*}
}

# request METHOD PATH [JSON]: the same, below /hosts.
request() {
    call "$1" "/hosts$2" "${3:-}"
}

# ask PATH JSON: a question, which may take long: 202 names a job, and its result is the answer.
ask() {
    call POST "$1" "$2"
    if [[ $status == 202 ]]; then
        local job
        job=$(field 'd["id"]')
        until call GET "/jobs/$job" && [[ $(field 'd["ended_at"] is not None') == True ]]; do sleep 0.2; done
        call GET "/jobs/$job/result"
    fi
    [[ $status == 200 ]] || { echo "$1: $answer" >&2; exit 1; }
}

# must METHOD PATH [JSON]: the same, for steps that have to succeed.
must() {
    request "$@"
    [[ $status == 2* ]] || { echo "$1 $2: $answer" >&2; exit 1; }
}

# field EXPRESSION: a value of $answer, in Python's words: field 'd["pid"]'
field() {
    python3 -IS -c 'import json, sys; d = json.load(sys.stdin); print(eval(sys.argv[1]))' "$1" <<<"$answer"
}

# boot NAME SPEC: a fresh host; one that an earlier run left behind goes first.
boot() {
    request DELETE "/$1"
    must POST '' "{\"name\": \"$1\", \"spec\": $2}"
}

heading() {
    printf '%-44s %6s | %5s %5s %5s %5s %5s\n' step status nr free resv surp max
}

# row HOST STEP: the status of the last request and the host's counters now.
row() {
    local of_step=$status
    must GET "/$1/$POOL"
    # shellcheck disable=SC2046  # five numbers are five arguments
    printf '%-44s %6s | %5s %5s %5s %5s %5s\n' "$2" "$of_step" $(field '" ".join(str(d[name]) for name in (
        "nr_hugepages", "free_hugepages", "resv_hugepages", "surplus_hugepages", "max_huge_pages"))')
}

# resize HOST COUNT STEP [NODE]: write a pool size, then the row.
resize() {
    request PUT "/$1/$POOL/nr_hugepages" "{\"count\": $2${4:+, \"node\": $4}}"
    row "$1" "$3"
}
