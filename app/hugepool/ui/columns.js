// Columns of the fleet: a key for the address, a title, the value to sort by, and how it is shown.

import { ago, bytes, h, number } from "./dom.js";

const none = { nr_hugepages: 0, free_hugepages: 0, resv_hugepages: 0, surplus_hugepages: 0 };
const small = (host) => host.hugepages[0] || none;
const big = (host) => host.hugepages[1] || none;
const count = (key, title, value, isShown = true) => ({ key, title, value, numeric: true, isShown, show: (host) => number(value(host)) });
const size = (key, title, value, isShown = true) => ({ key, title, value, numeric: true, isShown, show: (host) => bytes(value(host)) });
const badge = (word) => h("span", { class: "badge" }, `⚠ ${word}`);

function states(host, { audited }) {
  const audit = audited.has(host.name) ? (audited.get(host.name) ? h("span", { class: "badge good" }, "✓ counters hold") : badge("audit-failed")) : null;
  return [...host.states.map(badge), audit];
}

export const COLUMNS = [
  { key: "host", title: "Host", value: (x) => x.name, isShown: true, show: (x) => h("a", { href: `/ui/hosts/${x.name}` }, x.name) },
  { key: "kernel", title: "Kernel", value: (x) => x.kernel, isShown: true },
  { key: "freeing", title: "Frees vmemmap", value: (x) => (x.vmemmap_freeing ? "yes" : "no"), isShown: true },
  count("nodes", "Nodes", (x) => x.nodes.length),
  count("pages", "2 MiB pages", (x) => small(x).nr_hugepages),
  { key: "trend", title: "Trend", value: (x) => x.revision, isShown: true },
  count("free", "Free", (x) => small(x).free_hugepages),
  count("reserved", "Reserved", (x) => small(x).resv_hugepages),
  count("surplus", "Surplus", (x) => small(x).surplus_hugepages),
  count("big", "1 GiB pages", (x) => big(x).nr_hugepages),
  size("saved", "Saved", (x) => x.vmemmap.bytes_saved),
  size("available", "Available", (x) => x.memory.available_bytes),
  size("memory", "Memory", (x) => x.memory.total_bytes, false),
  count("faults", "Faults", (x) => x.faults_armed, false),
  count("waiting", "Waiting", (x) => x.deferred_queued, false),
  { key: "labels", title: "Labels", value: (x) => Object.entries(x.labels).map(([k, v]) => `${k}=${v}`).join(" "), isShown: false },
  { key: "state", title: "State", value: (x) => x.states.join(" "), isShown: true, show: states },
  count("revision", "Revision", (x) => x.revision, false),
  { key: "changed", title: "Changed", value: (x) => x.changed_at || "", isShown: true, show: (x) => ago(x.changed_at) },
];

export const NARROW = "host,pages,surplus,state";

export function columnsOf(chosen, narrow) {
  const wanted = chosen || narrow;
  if (!wanted) return COLUMNS.filter((each) => each.isShown);
  const keys = new Set(["host", ...wanted.split(",")]);
  return COLUMNS.filter((each) => keys.has(each.key));
}
