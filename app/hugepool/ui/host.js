// One host: figures, nodes, memory map, why, what happened, forms, tasks, events and console.

import { follow, get, Refused } from "./api.js";
import { historyChart } from "./chart.js";
import { ago, bytes, card, fill, h, number, plural } from "./dom.js";
import { memoryMap } from "./map.js";
import { nodesCard } from "./nodes.js";
import { tasksCard } from "./tasks.js";
import { tryCard } from "./try.js";
import { whyCard } from "./why.js";

const QUIET_MS = 250; // many changes at once are one look
const EVENTS = 30;

export async function showHost(root, context, name) {
  document.title = `hugepool: ${name}`;
  const reload = () => load().catch(context.fail);
  const attempt = tryCard(name, context, reload);
  const part = { map: memoryMap(name, attempt.run), chart: historyChart(name), why: whyCard(name, attempt.run), nodes: nodesCard(), tasks: tasksCard(name, attempt) };
  const tiles = h("div", { class: "tiles" });
  const events = h("ul", { class: "plain log", tabindex: "0" });
  const console_ = h("pre", { class: "log", tabindex: "0" });
  const about = h("p", { class: "about" });
  let alive = true;

  async function load() {
    const [{ items: [host] }, detail, list, dmesg] = await Promise.all([get(`/v1/hosts?view=summary&name=${name}`), get(`/v1/hosts/${name}`),
      get(`/v1/hosts/${name}/events?newest=60`), get(`/v1/hosts/${name}/dmesg`)]).catch(missing);
    if (!host || !alive) return;
    draw(host, detail);
    const shown = list.items.filter((event) => event.type !== "KernelMessagePrinted").slice(-EVENTS).reverse();
    events.replaceChildren(...shown.map((event) => h("li", {}, h("span", { class: "rev" }, `r${event.revision}`), ` ${event.type} `, h("span", { class: "quiet" }, brief(event.data)))));
    console_.textContent = dmesg.lines.slice(-60).join("\n") || "Nothing was printed.";
    const [picture] = await Promise.all([part.map.load(detail), part.chart.load(), part.why.load(), part.tasks.load()]).catch(missing);
    if (picture) part.nodes.draw(host, picture.by_node);
  }

  function missing(error) {
    if (!(error instanceof Refused) || error.status !== 404) throw error;
    gone();
    return [{ items: [] }];
  }

  function gone() {
    alive = false;
    root.replaceChildren(h("div", { class: "card", role: "alert" }, `There is no host ${name} any more. `, h("a", { href: "/ui/" }, "All hosts")));
  }

  function draw(host, detail) {
    const [pool, big] = host.hugepages;
    const stuck = host.states.includes("surplus-stuck");
    const labels = Object.entries(host.labels).map(([key, value]) => h("span", { class: "label" }, `${key}=${value}`));
    fill(about, `kernel ${host.kernel} · revision ${host.revision} · changed ${ago(host.changed_at) || "never"} · ${plural(host.nodes.length, "node")} · ` +
      `${host.vmemmap_freeing ? "huge pages give their vmemmap back" : "huge pages keep their vmemmap"} `, ...labels,
    detail.cmdline ? h("code", { class: "cmdline" }, detail.cmdline) : null, ...host.states.map((state) => h("span", { class: "badge" }, `⚠ ${state}`)));
    tiles.replaceChildren(
      tile("2 MiB pages", number(pool.nr_hugepages), `asked for ${number(pool.asked_hugepages)}`, pool.asked_hugepages > pool.nr_hugepages),
      tile("Free of them", number(pool.free_hugepages), `${number(pool.resv_hugepages)} reserved, ${number(pool.nr_hugepages - pool.free_hugepages)} in use`),
      tile("Surplus", number(pool.surplus_hugepages), stuck ? "stuck: writing again is no retry" : "none is stuck", stuck),
      tile("1 GiB pages", big ? number(big.nr_hugepages) : "–", big ? `${number(big.free_hugepages)} free` : "no such size"),
      tile("vmemmap saved, net", bytes(host.vmemmap.bytes_saved), plural(host.vmemmap.page_table_pages, "page table")),
      tile("Available", bytes(host.memory.available_bytes), `of ${bytes(host.memory.total_bytes)}`),
      tile("Faults armed", number(host.faults_armed), host.faults_armed ? "requests are refused on purpose" : "nothing is injected", host.faults_armed > 0));
  }

  root.replaceChildren(h("div", { class: "between" }, h("h1", {}, name), h("span", {}, h("a", { href: `/ui/compare?host=${name}` }, "Compare"), " ", h("a", { href: `/ui/plans?host=${name}` }, "Plans"))),
    about, tiles,
    h("div", { class: "grid" }, h("div", { class: "stack" }, part.map.element, part.nodes.element, part.chart.element), h("div", { class: "stack" }, part.why.element, attempt.element, attempt.scenario)),
    h("div", { class: "grid even" }, part.tasks.element, card("Events", events)), card("Console", console_));
  await load();
  let waiting = false;
  const stop = follow("/v1/events/stream", (change) => {
    if (change.host !== name || !alive) return;
    if (change.type === "HostDeleted") gone();
    if (waiting || !alive) return;
    waiting = true;
    setTimeout(() => { waiting = false; if (alive) reload(); }, QUIET_MS);
  }, context.isLive, reload);
  context.onLeave(() => { alive = false; stop(); part.map.stop(); part.chart.stop(); attempt.stop(); });
}

function tile(title, value, more, warn = false) {
  return h("div", { class: warn ? "card tile warn" : "card tile" }, h("span", { class: "quiet" }, title), h("b", {}, value), h("small", {}, warn ? `⚠ ${more}` : more));
}

function brief(data) {
  const text = Object.entries(data).filter(([, value]) => typeof value !== "object").map(([key, value]) => `${key}=${value}`).join(" ");
  return text.length > 90 ? `${text.slice(0, 87)}…` : text;
}
