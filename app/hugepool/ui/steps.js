// What can be done to a host: a step of a scenario, and the request that does the same. One row for each word.

import { hasToken } from "./api.js";
import { bytes, number, plural, SIZES } from "./dom.js";

const state = (word) => (block) => ["PUT", `memory-blocks/${block}/state`, { state: word }];
const ofTask = (method, what) => ({ pid, ...body }) => [method, `tasks/${pid}/${what}`, body];
const REQUESTS = {
  resize: ({ size = "2048kB", ...body }) => ["PUT", `hugepages/${size}/nr_hugepages`, body],
  overcommit: ({ size = "2048kB", ...body }) => ["PUT", `hugepages/${size}/nr_overcommit_hugepages`, body],
  demote: ({ size = "1048576kB", ...body }) => ["POST", `hugepages/${size}/demote`, body],
  task: (body) => ["POST", "tasks", body],
  touch: ofTask("POST", "touch"),
  move: ofTask("PUT", "cgroup"),
  exit: (pid) => ["DELETE", `tasks/${pid}`],
  cgroup: ({ path, ...body }) => ["PUT", `cgroups/${path}`, body],
  remove_cgroup: (path) => ["DELETE", `cgroups/${path}`],
  offline: state("offline"),
  online: state("online"),
  online_kernel: state("online_kernel"),
  online_movable: state("online_movable"),
  add_memory: (body) => ["POST", "memory-blocks", body],
  remove_memory: (block) => ["DELETE", `memory-blocks/${block}`],
  virtio_mem: (body) => ["POST", "virtio-mem", body],
  request_virtio_mem: ({ id, ...body }) => ["PUT", `virtio-mem/${id}`, body],
  retry_virtio_mem: (id) => ["POST", `virtio-mem/${id}/retry`],
  remove_virtio_mem: (id) => ["DELETE", `virtio-mem/${id}`],
  alloc_contig: (body) => ["POST", "contig-ranges", body],
  free_contig: (id) => ["DELETE", `contig-ranges/${id}`],
  fault: ({ point, ...body }) => ["PUT", `faults/${point}`, body],
  clear_fault: (point) => ["DELETE", `faults/${point}`],
  drain: () => ["POST", "deferred-frees/drain"],
  deferred_mode: (mode) => ["PUT", "deferred-frees", { mode }],
  write: (path, step) => ["PUT", `fs${path}`, undefined, step.data],
};

export const wordOf = (step) => Object.keys(step).find((key) => key in REQUESTS);

export function request(host, step) {
  const word = wordOf(step);
  if (!word) throw new Error(`The page cannot send the step ${Object.keys(step)[0]}.`);
  const [method, path, body, raw] = REQUESTS[word](step[word], step);
  return { method, path: `/v1/hosts/${host}/${path}`, body, raw };
}

export function asCurl({ method, path, body, raw }) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const token = hasToken() ? ' -H "Authorization: Bearer $TOKEN"' : "";
  const data = body !== undefined ? ` -H 'Content-Type: application/json' -d ${quoted(JSON.stringify(body))}`
    : raw !== undefined ? ` --data-binary ${quoted(raw)}` : "";
  return `curl${method === "GET" ? "" : ` -X ${method}`} ${quoted(location.origin + path)}${token}${data}`;
}

const count = (result, key) => Object.values(result[key] || {}).reduce((sum, each) => sum + each, 0);
const SENTENCES = {
  resize: (r) => `The pool goes from ${plural(r.before.nr_hugepages, "page")} to ${number(r.after.nr_hugepages)}. It reaches what was asked.`,
  demote: (r) => (r.demoted === undefined ? "" : `${plural(r.demoted, "page")} of 1 GiB are split.`),
  task: (r) => `Task ${r.pid} starts${r.touched ? ` and has ${plural(r.touched, "page")}` : ""}${r.signal ? `; it gets ${r.signal}` : ""}.`,
  touch: (r) => `${plural(r.touched ?? 0, "page")} are touched${r.signal ? `; then it gets ${r.signal}` : ""}.`,
  offline: (r) => `The block is offline: ${plural(r.migrated_pages, "page")} moved, ${plural(count(r, "dissolved"), "huge page")} of the pool lost.`,
  online: () => "The block is online.",
  alloc_contig: (r) => `Pages ${number(r.start_pfn)} to ${number(r.end_pfn - 1)} are taken; ${plural(r.migrated_pages, "page")} moved.`,
  write: (r) => (r.cache_pages === undefined ? "" : `${bytes(r.cache_pages * 4096)} of page cache and ${bytes(r.slab_pages * 4096)} of slab are given up.`),
  request_virtio_mem: (r) => `${bytes(r.plugged_bytes)} are plugged, of ${bytes(r.requested_bytes)} that the machine is to have.`,
  drain: (r) => `${plural(r.freed ?? 0, "huge page")} are freed, ${number(r.returned_as_surplus ?? 0)} come back as surplus.`,
};

// What a step comes to, in words: the service's own sentence where it has one.
export function sentence(step, result, problem) {
  if (problem) return problem.summary || problem.detail || problem.title;
  if (result?.shortfall) return result.shortfall.summary;
  const word = wordOf(step);
  const say = SENTENCES[word?.startsWith("online") ? "online" : word === "virtio_mem" || word === "retry_virtio_mem" ? "request_virtio_mem" : word];
  return (result && say && say(result)) || "It is done as asked.";
}

// A step in a few words, for lists.
export function brief(step) {
  const word = wordOf(step) || Object.keys(step)[0];
  const value = step[word];
  if (value === null || typeof value !== "object") return `${word} ${value ?? ""}${step.data ? ` ← ${step.data.trim()}` : ""}`;
  const parts = Object.entries(value).map(([key, each]) => `${key} ${key === "size" ? SIZES[each] || each
    : typeof each === "object" ? JSON.stringify(each) : each}`);
  return `${word} ${parts.join(", ")}`;
}
