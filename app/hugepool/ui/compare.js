// Compare: the same question for kernels, settings, sizes or hosts, as a table with bars.

import { get } from "./api.js";
import { card, copyButton, csv, download, h } from "./dom.js";
import { questions } from "./jobs.js";
import { compared } from "./compared.js";
import { asCurl } from "./steps.js";

const PAGE_BYTES = { "2048kB": 2 ** 21, "1048576kB": 2 ** 30 };
const UNITS = { K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };
const DEFAULTS = { nodes: "2", memory: "512G", cmdlines: "hugetlb_free_vmemmap=off\nhugetlb_free_vmemmap=on", size: "2048kB", counts: "400G", ask: "shrink", taken: "8G" };
const QUESTIONS = { grow: "How many pages does it get?", shrink: "How many does it get, and how many come back when kernel memory is taken?" };
const words = (text) => text.split(/[\s,]+/).filter(Boolean);

// "400G" is a number of bytes, "4096" one of pages.
function pages(text, size) {
  const found = text.match(/^(\d+)([KMGT])?$/i);
  if (!found) throw new Error(`${text} is neither a number of pages nor an amount of memory such as 400G.`);
  return found[2] ? Math.floor((Number(found[1]) * UNITS[found[2].toUpperCase()]) / PAGE_BYTES[size]) : Number(found[1]);
}

function question(given, kernels) {
  const counts = words(given.counts).map((each) => pages(each, given.size));
  const steps = [{ label: "grow", resize: { size: given.size, count: counts[0] } }];
  const columns = ["steps.grow.result.after.nr_hugepages"];
  if (given.ask === "shrink") {
    steps.push({ label: "taken", task: { kind: "kernel", memory: given.taken } }, { label: "shrink", resize: { size: given.size, count: 0 } });
    columns.push("steps.shrink.result.freed");
  }
  const hosts = words(given.hosts || "");
  const grid = { "steps.grow.resize.count": counts };
  if (hosts.length) return { host: hosts[0], steps, variants: { grid: { host: hosts, ...grid }, columns } };
  const cmdlines = given.cmdlines.split("\n").map((line) => line.trim());
  const spec = { kernel: kernels[0], cmdline: cmdlines[0], nodes: Array.from({ length: Number(given.nodes) }, () => ({ memory: given.memory })) };
  return { host: { spec }, steps, variants: { grid: { "host.spec.kernel": kernels, "host.spec.cmdline": cmdlines, ...grid }, columns } };
}

export async function showCompare(root, context) {
  document.title = "hugepool: compare";
  const query = new URLSearchParams(location.search);
  if (query.get("host")) query.set("hosts", query.get("host"));
  const known = (await get("/version")).kernels;
  const start = { ...DEFAULTS, ...(query.has("hosts") ? { counts: "4G", taken: "1G" } : {}), ...Object.fromEntries(query) };
  const chosen = query.get("kernels") ? query.get("kernels").split(",") : known;
  const text = (name, title, more = {}) => h("label", {}, title, h("input", { name, value: start[name] || "", autocomplete: "off", ...more }));
  const select = (name, title, options) => h("label", {}, title, h("select", { name }, Object.entries(options)
    .map(([value, shown]) => h("option", { value, selected: start[name] === value }, shown))));
  const raw = h("textarea", { name: "q", rows: "14", spellcheck: "false", "aria-label": "The question as JSON" });
  const kernels = h("fieldset", { class: "chips" }, h("legend", { class: "hidden" }, "Kernels"), known.map((kernel) => h("label", {},
    h("input", { type: "checkbox", name: "kernels", value: kernel, checked: chosen.includes(kernel) }), h("span", {}, `kernel ${kernel}`))));
  const machine = h("div", { id: "machine" }, kernels, h("div", { class: "row" }, text("nodes", "Nodes", { type: "number", min: "1", max: "64" }), text("memory", "Memory of each")),
    h("label", {}, "Kernel command lines, one a line", h("textarea", { name: "cmdlines", rows: "3", spellcheck: "false" }, start.cmdlines)));
  const form = h("form", {}, h("div", { class: "row" }, text("hosts", "Stored hosts instead of a machine", { placeholder: "web-1, web-2", class: "long" })), machine,
    h("div", { class: "row" }, select("size", "Page size", { "2048kB": "2 MiB", "1048576kB": "1 GiB" }), text("counts", "Pages asked, or memory"),
      text("taken", "Kernel memory taken")), h("div", { class: "row" }, select("ask", "Question", QUESTIONS)), h("div", { class: "row" }, h("button", { class: "main" }, "Compare")),
    h("details", { open: query.has("q") }, h("summary", {}, "The question as JSON: edit it for other steps, or a list of variants"), raw));
  const said = h("div", { "aria-live": "polite" });
  const result = h("div");
  const asking = questions(said, context.fail);
  let isEdited = query.has("q");

  function given() {
    const found = Object.fromEntries([...new FormData(form)].filter(([name]) => name !== "q" && name !== "kernels"));
    return { ...found, kernels: new FormData(form).getAll("kernels") };
  }

  function fill() {
    const values = given();
    machine.hidden = words(values.hosts).length > 0;
    form.elements.taken.closest("label").hidden = values.ask !== "shrink";
    if (isEdited) return;
    try {
      raw.value = JSON.stringify(question(values, values.kernels), null, 1);
      said.replaceChildren();
    } catch (error) {
      said.replaceChildren(h("p", { class: "error", role: "alert" }, error.message));
    }
  }

  function link() {
    const { kernels: picked, ...rest } = given();
    const kept = isEdited ? { q: JSON.stringify(JSON.parse(raw.value)) }
      : Object.fromEntries(Object.entries({ ...rest, kernels: picked.length === known.length ? "" : picked.join(",") }).filter(([key, value]) => value && value !== DEFAULTS[key]));
    return `/ui/compare?${new URLSearchParams({ ...kept, run: "1" })}`;
  }

  async function run() {
    let body;
    try {
      body = JSON.parse(raw.value);
    } catch (error) {
      said.replaceChildren(h("p", { class: "error", role: "alert" }, `The question is no JSON: ${error.message}`));
      return;
    }
    history.replaceState(null, "", link());
    const answer = await asking.put("/v1/what-if", body);
    if (answer === null) return;
    const found = compared(answer);
    result.replaceChildren(card("Answer", found.element, h("div", { class: "row" },
      h("button", { type: "button", onclick: () => download("compare.csv", csv(found.rows), "text/csv") }, "CSV"), copyButton("Copy as Markdown", () => markdown(found.rows)),
      copyButton("Copy the link", () => location.origin + link()), copyButton("Copy as curl", () => asCurl({ method: "POST", path: "/v1/what-if", body })),
      h("button", { type: "button", onclick: () => download("compare.yaml", `${JSON.stringify(body, null, 2)}\n`, "application/yaml") }, "Scenario"))));
  }

  form.addEventListener("input", (event) => { isEdited = event.target === raw; fill(); });
  form.addEventListener("submit", (event) => { event.preventDefault(); run().catch(context.fail); });
  context.onLeave(asking.stop);
  if (isEdited) raw.value = JSON.stringify(JSON.parse(query.get("q")), null, 1);
  root.replaceChildren(h("h1", {}, "Compare"), h("div", { class: "grid side" }, card("Question", form, said), result));
  fill();
  if (query.get("run")) await run();
}

const markdown = (rows) => rows.map((row, i) => `| ${row.join(" | ")} |${i ? "" : `\n|${row.map(() => "---|").join("")}`}`).join("\n");
