// One host: figures, nodes, why, memory map, history, events, console, and forms.

import { follow, get } from "./api.js";
import { historyChart } from "./chart.js";
import { bytes, color, h, number } from "./dom.js";
import { memoryMap } from "./map.js";
import { tryCard } from "./try.js";
import { whyCard } from "./why.js";

const MIB_PAGE = 2 * 2 ** 20;

export async function showHost(root, context, name) {
  document.title = `hugepool: ${name}`;
  const tiles = h("div", { class: "tiles" });
  const nodes = h("section", { class: "card" });
  const events = h("ul", { class: "plain" });
  const console_ = h("pre");
  const about = h("p", { class: "quiet" });
  const parts = { map: memoryMap(name), chart: historyChart(name), why: whyCard(name, context) };

  async function load() {
    const host = await get(`/v1/hosts?view=summary&name=${name}`);
    if (host.items.length === 0) {
      gone();
      return;
    }
    draw(host.items[0]);
    const [list, dmesg] = await Promise.all([latest(name), get(`/v1/hosts/${name}/dmesg`)]);
    events.replaceChildren(...list.reverse().map((event) => h("li", {}, `r${event.revision} ${event.type} `,
      h("span", { class: "quiet" }, brief(event.data)))));
    console_.textContent = dmesg.lines.slice(-40).join("\n") || "Nothing was printed.";
    await Promise.all(Object.values(parts).map((part) => part.load()));
  }

  function gone() {
    root.replaceChildren(h("div", { class: "card", role: "alert" }, `There is no host ${name} any more. `,
      h("a", { href: "/ui/" }, "All hosts")));
  }

  function draw(host) {
    const pool = host.hugepages[0];
    const used = pool.nr_hugepages - pool.free_hugepages;
    about.textContent = `kernel ${host.kernel}, revision ${host.revision}, ` +
      `${host.vmemmap_freeing ? "gives vmemmap back" : "keeps vmemmap"}${labels(host)}`;
    tiles.replaceChildren(
      tile("2 MiB pages", number(pool.nr_hugepages), `asked for ${number(pool.asked_hugepages)}`, pool.asked_hugepages > pool.nr_hugepages),
      tile("Free / reserved", `${number(pool.free_hugepages)} / ${number(pool.resv_hugepages)}`, `${number(used)} in use`),
      tile("Surplus", number(pool.surplus_hugepages), host.states.includes("surplus-stuck") ? "stuck" : "", host.states.includes("surplus-stuck")),
      tile("vmemmap saved, net", bytes(host.vmemmap.bytes_saved), `${number(host.vmemmap.page_table_pages)} page tables`),
      tile("Available", bytes(host.memory.available_bytes), `of ${bytes(host.memory.total_bytes)}`),
      tile("Faults armed", number(host.faults_armed), "", host.faults_armed > 0));
    nodes.replaceChildren(h("h2", {}, "Nodes"), ...host.nodes.map((node) => nodeBar(node)), legend());
  }

  parts.map.element.classList.add("wide");
  root.replaceChildren(h("h1", {}, name), about, tiles,
    h("div", { class: "grid" }, parts.map.element, h("div", {}, nodes, parts.why.element)),
    h("div", { class: "grid" }, parts.chart.element, tryCard(name, context, () => load().catch(context.fail))),
    h("div", { class: "grid" }, h("section", { class: "card" }, h("h2", {}, "Console"), console_),
      h("section", { class: "card" }, h("h2", {}, "Events"), events)));
  await load();
  let waiting = false;
  const stop = follow("/v1/events/stream", (change) => {
    if (change.host !== name) return;
    if (change.type === "HostDeleted") gone();
    if (waiting || change.type === "HostDeleted") return;
    waiting = true;
    setTimeout(() => { waiting = false; load().catch(context.fail); }, 250);
  }, context.isLive);
  context.onLeave(() => { stop(); parts.map.stop(); parts.chart.stop(); });
}

async function latest(name) {
  const { items } = await get(`/v1/hosts/${name}/events?newest=60`);
  return items.filter((event) => event.type !== "KernelMessagePrinted").slice(-30);
}

function tile(title, value, more, warn = false) {
  return h("div", { class: warn ? "card tile warn" : "card tile" }, h("span", { class: "quiet" }, title), h("b", {}, value),
    h("small", {}, warn ? `⚠ ${more}` : more));
}

const labels = (host) => Object.entries(host.labels).map(([key, value]) => `, ${key}=${value}`).join("");

const PARTS = [["in use", "hugetlb"], ["free huge pages", "free"], ["surplus", "surplus"], ["free memory", "buddy"], ["other", "kernel"]];

function nodeBar(node) {
  const pool = node.hugepages[0];
  const big = node.hugepages[1] ? node.hugepages[1].nr_hugepages * 2 ** 30 : 0;
  const surplus = Math.min(pool.surplus_hugepages, pool.free_hugepages);
  const sizes = [(pool.nr_hugepages - pool.free_hugepages) * MIB_PAGE + big, (pool.free_hugepages - surplus) * MIB_PAGE,
    surplus * MIB_PAGE, node.free_bytes];
  sizes.push(Math.max(0, node.total_bytes - sizes.reduce((a, b) => a + b, 0)));
  const text = PARTS.map(([title], i) => `${title} ${bytes(sizes[i])}`).join(", ");
  const bar = h("div", { class: "bar", role: "img", "aria-label": `Node ${node.node}: ${text}`, title: text });
  sizes.forEach((size, i) => {
    const part = h("span");
    part.style.background = color(PARTS[i][1]);
    part.style.flex = `${size} 0 0`;
    bar.append(part);
  });
  return h("div", {}, `Node ${node.node}: ${number(pool.nr_hugepages)} pages, ${bytes(node.free_bytes)} free of ${bytes(node.total_bytes)}`, bar);
}

function legend() {
  return h("div", { class: "legend" }, PARTS.map(([title, word]) => {
    const box = h("i");
    box.style.background = color(word);
    return h("span", {}, box, title);
  }));
}

function brief(data) {
  const text = Object.entries(data).filter(([, value]) => typeof value !== "object").map(([key, value]) => `${key}=${value}`).join(" ");
  return text.length > 90 ? `${text.slice(0, 87)}…` : text;
}
