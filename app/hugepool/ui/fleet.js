// All hosts: a table that follows the service.

import { follow, get } from "./api.js";
import { ago, bytes, h, number } from "./dom.js";

const ROWS = 200; // more are shown on demand, so that thousands of hosts scroll well
const STATES = ["surplus-stuck", "pool-short", "fault-armed", "deferred-queued", "node-full"];
const pool = (host) => host.hugepages[0];
const COLUMNS = [
  ["Host", (x) => x.name, (x) => h("a", { href: `/ui/hosts/${x.name}` }, x.name)],
  ["Kernel", (x) => x.kernel],
  ["Frees vmemmap", (x) => (x.vmemmap_freeing ? "yes" : "no")],
  ["Nodes", (x) => x.nodes.length, number],
  ["2 MiB pages", (x) => pool(x).nr_hugepages, number],
  ["Free", (x) => pool(x).free_hugepages, number],
  ["Reserved", (x) => pool(x).resv_hugepages, number],
  ["Surplus", (x) => pool(x).surplus_hugepages, number],
  ["1 GiB pages", (x) => (x.hugepages[1] ? x.hugepages[1].nr_hugepages : 0), number],
  ["Saved", (x) => x.vmemmap.bytes_saved, bytes],
  ["Available", (x) => x.memory.available_bytes, bytes],
  ["State", (x) => x.states.join(" "), (x) => x.states.map((state) => h("span", { class: "badge" }, state))],
  ["Changed", (x) => x.changed_at || "", (x) => ago(x.changed_at)],
];

async function all(query) {
  const items = [];
  let cursor = null;
  do {
    const more = new URLSearchParams(query);
    more.set("view", "summary");
    more.set("limit", "1000");
    if (cursor) more.set("cursor", cursor);
    const page = await get(`/v1/hosts?${more}`);
    items.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor);
  return items;
}

export async function showFleet(root, context) {
  document.title = "hugepool: fleet";
  const state = { query: new URLSearchParams(location.search), shown: ROWS, items: [] };
  const body = h("tbody");
  const summary = h("p", { class: "quiet", role: "status" });
  const more = h("button", { type: "button", hidden: true }, "Show more");
  const head = h("tr", {}, COLUMNS.map(([title], i) => heading(title, i)));
  const filters = filterForm();

  function heading(title, i) {
    const sort = h("button", { type: "button" }, title);
    sort.addEventListener("click", () => {
      const now = state.query.get("sort") === String(i) && state.query.get("down") !== "1";
      keep({ sort: String(i), down: now ? "1" : null });
      draw();
    });
    return h("th", { scope: "col", class: COLUMNS[i][2] === number || COLUMNS[i][2] === bytes ? "n" : null }, sort);
  }

  function filterForm() {
    const name = h("input", { name: "name", placeholder: "web-*", value: state.query.get("name") || "" });
    const label = h("input", { name: "label", placeholder: "rack=7", value: state.query.get("label") || "" });
    const wanted = h("select", { name: "state" }, h("option", { value: "" }, "any"),
      STATES.map((word) => h("option", { value: word, selected: state.query.get("state") === word }, word)));
    const form = h("form", { class: "row" }, h("label", {}, "Name", name), h("label", {}, "Label", label),
      h("label", {}, "State", wanted), h("button", { class: "main" }, "Filter"),
      h("a", { href: "/v1/hosts?view=summary", download: "hosts.csv", id: "csv" }, "CSV"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      keep({ name: name.value || null, label: label.value || null, state: wanted.value || null });
      load().catch(context.fail);
    });
    form.querySelector("#csv").addEventListener("click", saveCsv);
    return form;
  }

  function keep(values) {
    for (const [key, value] of Object.entries(values)) {
      if (value === null) state.query.delete(key);
      else state.query.set(key, value);
    }
    const text = state.query.toString();
    history.replaceState(null, "", text ? `/ui/?${text}` : "/ui/");
  }

  function question() {
    return Object.fromEntries(["name", "label", "state"].map((k) => [k, state.query.get(k)]).filter(([, v]) => v));
  }

  function sorted() {
    const chosen = COLUMNS[Number(state.query.get("sort") || 0)] || COLUMNS[0];
    const sign = state.query.get("down") === "1" ? -1 : 1;
    const value = chosen[1];
    return [...state.items].sort((a, b) => sign * (value(a) > value(b) ? 1 : value(a) < value(b) ? -1 : 0));
  }

  function row(host) {
    return h("tr", {}, COLUMNS.map(([, value, show]) => {
      const shown = !show ? value(host) : show === number || show === bytes ? show(value(host)) : show(host);
      return h("td", { class: show === number || show === bytes ? "n" : null }, shown);
    }));
  }

  function draw() {
    const items = sorted();
    body.replaceChildren(...items.slice(0, state.shown).map(row));
    more.hidden = items.length <= state.shown;
    more.textContent = `Show ${Math.min(ROWS, items.length - state.shown)} more`;
    const stuck = items.filter((host) => host.states.length).length;
    summary.textContent = items.length === 0
      ? "No host fits. Make one with POST /v1/hosts, or hugepool import."
      : `${number(items.length)} hosts, ${number(stuck)} of them to look at.`;
  }

  async function load() {
    state.items = await all(question());
    draw();
  }

  function saveCsv(event) {
    event.preventDefault();
    const lines = [COLUMNS.map(([title]) => title), ...sorted().map((host) => COLUMNS.map(([, value]) => value(host)))];
    const text = lines.map((line) => line.map((cell) => `"${String(cell).replaceAll('"', '""')}"`).join(",")).join("\r\n");
    const link = h("a", { href: URL.createObjectURL(new Blob([text], { type: "text/csv" })), download: "hosts.csv" });
    link.click();
    URL.revokeObjectURL(link.href);
  }

  more.addEventListener("click", () => { state.shown += ROWS; draw(); });
  await load();
  root.replaceChildren(h("h1", {}, "Fleet"), filters, summary,
    h("div", { class: "card scroll" }, h("table", {}, h("thead", {}, head), body)), more);
  let waiting = false;
  const stop = follow("/v1/events/stream", () => {
    if (waiting) return;
    waiting = true; // many changes at once are one look
    setTimeout(() => { waiting = false; load().catch(context.fail); }, 300);
  }, context.isLive);
  context.onLeave(stop);
}
