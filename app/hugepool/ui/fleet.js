// All hosts: a table that follows the service. Only rows in sight are drawn, so that thousands of hosts scroll well.

import { follow, get, Refused } from "./api.js";
import { COLUMNS, columnsOf, NARROW } from "./columns.js";
import { bytes, csv, download, h, number, plural } from "./dom.js";
import { sparklines } from "./spark.js";

const ROW = 34; // pixels, as in style.css
const AROUND = 12; // rows drawn above and below those in sight
const QUIET_MS = 300; // many changes at once are one look
const MANY = 25; // changed hosts, from which on all are asked for again
const STATES = ["surplus-stuck", "pool-short", "fault-armed", "deferred-queued", "node-full"];
const WORDS = new Intl.Collator("en", { numeric: true }); // web-2 stands before web-10
const FILTERS = ["name", "label", "kernel", "state"];

async function all(filters, onPart = () => {}) {
  const items = [];
  let cursor = null;
  do {
    const page = await get(`/v1/hosts?${new URLSearchParams({ ...filters, view: "summary", limit: "1000", ...(cursor ? { cursor } : {}) })}`);
    items.push(...page.items);
    cursor = page.next_cursor;
    if (cursor) onPart(items);
  } while (cursor);
  return items;
}

export async function showFleet(root, context) {
  document.title = "hugepool: fleet";
  const state = { query: new URLSearchParams(location.search), hosts: new Map(), shown: [], ticked: new Set(), audited: new Map(), drawn: "" };
  const isNarrow = () => window.innerWidth < 700;
  const columns = () => columnsOf(state.query.get("cols"), isNarrow() ? NARROW : null);
  const body = h("tbody");
  const head = h("thead");
  const sums = h("div", { class: "tiles" });
  const said = h("p", { class: "quiet", role: "status" });
  const actions = h("div", { class: "row actions" });
  const grid = h("table", { class: "fleet" }, head, body);
  const spark = sparklines();

  // -- what is kept in the address ---------------------------------------------------------------------------

  function keep(changes) {
    for (const [key, value] of Object.entries(changes)) {
      if (value) state.query.set(key, value);
      else state.query.delete(key);
    }
    const text = state.query.toString();
    history.replaceState(null, "", text ? `/ui/?${text}` : "/ui/");
  }

  const filters = () => Object.fromEntries(FILTERS.map((key) => [key, state.query.get(key)]).filter(([, value]) => value));

  const plans = h("a", { class: "button" }, "Plans");

  function filterForm() {
    const input = (name, placeholder) => h("input", { name, placeholder, value: state.query.get(name) || "", autocomplete: "off" });
    const wanted = h("select", { name: "state" }, h("option", { value: "" }, "any"), STATES.map((word) => h("option", { value: word, selected: state.query.get("state") === word }, word)));
    const form = h("form", { class: "row" }, h("label", {}, "Name", input("name", "web-*")), h("label", {}, "Label", input("label", "rack=7")),
      h("label", {}, "Kernel", input("kernel", "6.1")), h("label", {}, "State", wanted), h("button", { class: "main" }, "Filter"),
      h("button", { type: "reset" }, "All"), columnChooser(), h("a", { href: "#csv", id: "csv", role: "button" }, "CSV"), plans);
    form.addEventListener("submit", (event) => { event.preventDefault(); apply(Object.fromEntries(new FormData(form))); });
    form.addEventListener("reset", () => { form.querySelectorAll("input[name]").forEach((each) => each.setAttribute("value", "")); wanted.querySelector("[selected]")?.removeAttribute("selected"); apply({}); });
    form.querySelector("#csv").addEventListener("click", (event) => { event.preventDefault(); saveCsv(); });
    return form;
  }

  function apply(values) {
    keep(Object.fromEntries(FILTERS.map((key) => [key, values[key]?.trim()])));
    load().catch(wrong);
  }

  function columnChooser() {
    const box = ({ key, title }) => {
      const tick = h("input", { type: "checkbox", checked: columns().some((each) => each.key === key) });
      tick.addEventListener("change", () => {
        const wanted = COLUMNS.filter((each) => (each.key === key ? tick.checked : columns().some((shown) => shown.key === each.key)));
        keep({ cols: wanted.map((each) => each.key).join(",") });
        draw();
      });
      return h("label", { class: "check" }, title, tick);
    };
    return h("details", { class: "menu" }, h("summary", {}, "Columns"), h("div", { class: "card" }, COLUMNS.slice(1).map(box)));
  }

  // -- drawing -------------------------------------------------------------------------------------------------

  function sorted() {
    const chosen = COLUMNS.find((each) => each.key === state.query.get("sort")) || COLUMNS[0];
    const sign = state.query.get("down") ? -1 : 1;
    const order = (a, b) => (typeof a === "string" ? WORDS.compare(a, b) : a - b);
    return [...state.hosts.values()].sort((a, b) => sign * order(chosen.value(a), chosen.value(b)) || WORDS.compare(a.name, b.name));
  }

  function heading(column) {
    const isSorted = (state.query.get("sort") || "host") === column.key;
    const down = isSorted && !state.query.get("down");
    const sort = () => { keep({ sort: column.key, down: down ? "1" : null }); draw(); };
    return h("th", { scope: "col", class: column.numeric ? "n" : null, "aria-sort": isSorted ? (down ? "ascending" : "descending") : null },
      h("button", { type: "button", onclick: sort }, column.title, isSorted ? h("span", { "aria-hidden": "true" }, down ? " ▲" : " ▼") : null));
  }

  function row(host, at, shown) {
    const tick = h("input", { type: "checkbox", "aria-label": `Select ${host.name}`, checked: state.ticked.has(host.name) });
    tick.addEventListener("change", () => { state.ticked[tick.checked ? "add" : "delete"](host.name); drawActions(); });
    const cells = shown.map((column) => {
      const content = column.key === "trend" ? spark.of(host) : column.show ? column.show(host, state) : column.value(host);
      return column.key === "host" ? h("th", { scope: "row" }, content) : h("td", { class: column.numeric ? "n" : null }, content);
    });
    return h("tr", { "aria-rowindex": String(at + 2) }, h("td", { class: "tick" }, tick), cells);
  }

  function draw() {
    state.shown = sorted();
    plans.href = `/ui/plans?${new URLSearchParams({ fleet: "1", ...filters() })}`;
    head.replaceChildren(h("tr", {}, h("td", { class: "tick" }), columns().map(heading)));
    grid.setAttribute("aria-rowcount", String(state.shown.length + 1));
    state.drawn = "";
    drawRows();
    drawSums();
    drawActions();
  }

  function drawRows() {
    const top = Math.max(0, -body.getBoundingClientRect().top);
    const first = Math.max(0, Math.floor(top / ROW) - AROUND);
    const last = Math.min(state.shown.length, Math.ceil((top + window.innerHeight) / ROW) + AROUND);
    if (state.drawn === `${first}-${last}`) return;
    state.drawn = `${first}-${last}`;
    const shown = columns();
    const space = (rows) => {
      if (rows === 0) return [];
      const gap = h("tr", { class: "gap", "aria-hidden": "true" }, h("td", { colspan: String(shown.length + 1) }));
      gap.firstChild.style.height = `${rows * ROW}px`;
      return [gap];
    };
    body.replaceChildren(...space(first), ...state.shown.slice(first, last).map((host, i) => row(host, first + i, shown)), ...space(state.shown.length - last));
  }

  function drawSums() {
    const hosts = state.shown;
    const sum = (value) => hosts.reduce((total, host) => total + value(host), 0);
    const watched = hosts.filter((host) => host.states.length).length;
    const tile = (title, value, more, warn) => h("div", { class: warn ? "card tile warn" : "card tile" }, h("span", { class: "quiet" }, title), h("b", {}, value), h("small", {}, more));
    sums.replaceChildren(
      tile("Hosts", number(hosts.length), watched ? `⚠ ${number(watched)} to look at` : "✓ nothing to look at", watched > 0),
      tile("2 MiB pages", number(sum((x) => x.hugepages[0].nr_hugepages)), `${number(sum((x) => x.hugepages[0].free_hugepages))} free`),
      tile("Surplus", number(sum((x) => x.hugepages[0].surplus_hugepages)), `stuck on ${plural(hosts.filter((x) => x.states.includes("surplus-stuck")).length, "host")}`),
      tile("Saved, net", bytes(sum((x) => x.vmemmap.bytes_saved)), "vmemmap given back"),
      tile("Available", bytes(sum((x) => x.memory.available_bytes)), `of ${bytes(sum((x) => x.memory.total_bytes))}`));
    sums.hidden = hosts.length === 0;
    grid.hidden = hosts.length === 0;
    said.replaceChildren(...(hosts.length ? [plural(hosts.length, "host"), Object.keys(filters()).length ? " fit the filter. " : ". ", ...found(hosts)]
      : Object.keys(filters()).length ? ["No host fits."] : ["There is no host yet. ", h("a", { href: "/ui/import" }, "Boot or import one")]));
  }

  // States that hosts are in, each as a link to these hosts.
  function found(hosts) {
    const counts = STATES.map((word) => [word, hosts.filter((host) => host.states.includes(word)).length]).filter(([, count]) => count > 0);
    return counts.map(([word, count]) => h("a", { class: "badge", href: `/ui/?${new URLSearchParams({ ...filters(), state: word })}` }, `⚠ ${word}: ${number(count)}`));
  }

  function drawActions() {
    const names = [...state.ticked].filter((name) => state.hosts.has(name));
    actions.hidden = names.length === 0;
    actions.replaceChildren(h("b", {}, `${plural(names.length, "host")} selected`),
      h("a", { href: `/ui/compare?hosts=${names.join(",")}`, class: "button" }, "Compare"),
      h("button", { type: "button", onclick: () => check(names) }, "Check all counters"),
      h("button", { type: "button", onclick: () => { state.ticked.clear(); draw(); } }, "Clear"));
  }

  async function check(names) {
    for (const name of names) {
      const { ok } = await get(`/v1/hosts/${name}/audit`);
      state.audited.set(name, ok);
    }
    draw();
  }

  function saveCsv() {
    const shown = columns().filter((each) => each.key !== "trend");
    download("hosts.csv", csv([shown.map((each) => each.title), ...state.shown.map((host) => shown.map((each) => each.value(host)))]), "text/csv");
  }

  // -- following -----------------------------------------------------------------------------------------------

  const take = (hosts) => {
    state.hosts = new Map(hosts.map((host) => [host.name, host]));
    draw();
  };

  async function load() {
    take(await all(filters(), (part) => { if (state.hosts.size === 0) take(part); }));
  }

  async function refresh(names) {
    if (names.size > MANY) { await load(); return; }
    const pattern = filters().name;
    const fits = pattern ? new RegExp(`^${pattern.replaceAll("*", ".*").replaceAll("?", ".")}$`) : null;
    await Promise.all([...names].filter((name) => !fits || fits.test(name)).map(async (name) => {
      const [host] = await all({ ...filters(), name });
      if (host) state.hosts.set(name, host);
      else state.hosts.delete(name);
    }));
    draw();
  }

  const wrong = (error) => {
    if (error instanceof Refused && error.status === 422) said.textContent = error.problem.detail;
    else context.fail(error);
  };
  const changed = new Set();
  const stop = follow("/v1/events/stream", (change) => {
    changed.add(change.host);
    if (changed.size > 1) return;
    setTimeout(() => { const names = new Set(changed); changed.clear(); refresh(names).catch(wrong); }, QUIET_MS);
  }, context.isLive, () => load().catch(wrong));
  context.onLeave(stop);
  root.replaceChildren(h("h1", {}, "Fleet"), filterForm(), sums, actions, said, h("div", { class: "card scroll", tabindex: "0" }, grid));
  const onScroll = () => requestAnimationFrame(drawRows);
  let width = isNarrow();
  const onResize = () => { if (width !== isNarrow()) { width = isNarrow(); draw(); } else onScroll(); };
  window.addEventListener("scroll", onScroll, { passive: true });
  window.addEventListener("resize", onResize);
  context.onLeave(() => { window.removeEventListener("scroll", onScroll); window.removeEventListener("resize", onResize); });
  await load();
  performance.mark("fleet-painted");
}
