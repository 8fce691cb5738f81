// Plans: six questions of planners about a host, or about all hosts of a filter, answered by trying on copies.

import { get } from "./api.js";
import { card, copyButton, h } from "./dom.js";
import { questions } from "./jobs.js";
import { fleetResult, RESULTS } from "./planned.js";
import { asCurl } from "./steps.js";
import { field, values } from "./try.js";

const size = ["size", "Page size", { options: [["2048kB", "2 MiB"], ["1048576kB", "1 GiB"]] }];
const memory = (name, title, value) => [name, title, { value, required: value !== "", pattern: "[0-9]+[KMGTkmgt]?", placeholder: value ? null : "all that can" }];
const count = (name, title, more) => [name, title, { type: "number", min: 1, ...more }];
const STATES = ["surplus-stuck", "pool-short", "fault-armed", "deferred-queued", "node-full"];
const FILTER = [["name", "Names", { placeholder: "all" }], ["label", "Label", { placeholder: "rack=7" }], ["kernel", "Kernel", { placeholder: "any" }],
  ["state", "State", { options: [["", "any"], ...STATES.map((word) => [word, word])] }]];
const numbers = (text) => text.split(/[\s,]+/).filter(Boolean).map(Number);

// Word of the API, title, what it asks, fields, and the body that their values make.
const PLANS = [
  ["max-pool", "Largest pool", "How many huge pages can there be, so that this much memory stays available?", [size, memory("keep", "Memory to keep", "2G")]],
  ["savings", "Savings", "What does it give when so many pages more give their vmemmap back?", [size, count("count", "Pages", { value: 512, required: true }), count("node", "Node", { min: 0, placeholder: "all" })]],
  ["headroom", "Headroom", "How much kernel memory must stay free so that these pages can be given back?", [size, count("count", "Pages", { placeholder: "all that can" })]],
  ["offline", "Offline", "Which memory blocks can go offline, and which of them together give this much?", [memory("memory", "Memory wanted", ""), count("node", "Node", { min: 0, placeholder: "any" })]],
  ["placement", "Placement", "Does a virtual machine of this size start, and what has to be written so that it does?", [memory("memory", "Its memory", "1G"), size, ["nodes", "Bound to nodes", { placeholder: "all" }]]],
  ["churn", "Churn", "How many huge pages can still be formed after rounds of allocation and freeing?", [count("rounds", "Rounds", { value: 20 }), count("seeds", "Histories", { value: 8 }),
    count("unmovable_percent", "Unmovable %", { min: 0, max: 100, value: 10 }), count("fill_percent", "In use at most %", { min: 0, max: 100, value: 80 })]],
];

export async function showPlans(root, context) {
  document.title = "hugepool: plans";
  const query = new URLSearchParams(location.search);
  const hosts = (await get("/v1/hosts?limit=1000")).items.map((each) => each.name);
  const host = h("input", { name: "host", list: "hosts", value: query.get("host") || hosts[0] || "", required: true, autocomplete: "off" });
  const chips = h("fieldset", { class: "chips" }, h("legend", { class: "hidden" }, "Plan"));
  const about = h("p", { class: "sentence" });
  const fields = h("div", { class: "row" });
  const said = h("div", { "aria-live": "polite" });
  const result = h("div", { class: "stack" });
  const asking = questions(said, context.fail);
  const many = h("input", { type: "checkbox", name: "fleet", checked: query.has("fleet") });
  const one = h("div", { class: "row" }, h("label", {}, "Host", host), h("datalist", { id: "hosts" }, hosts.map((value) => h("option", { value }))));
  const some = h("div", { class: "row" }, FILTER.map(field));
  for (const input of some.querySelectorAll("[name]")) input.value = query.get(input.name) || "";
  const whom = h("fieldset", { class: "chips" }, h("legend", { class: "hidden" }, "Of which hosts"), h("label", {}, many, h("span", {}, "all hosts of a filter")));
  const form = h("form", {}, whom, one, some, chips, about, fields,
    h("div", { class: "row" }, h("button", { class: "main" }, "Ask"), copyButton("Copy as curl", () => asCurl({ method: "POST", path: path(), body: body() }))), said);
  let plan = PLANS.find(([word]) => word === query.get("plan")) || PLANS[0];
  let stop = () => {};

  const path = () => (many.checked ? `/v1/fleet/plans/${plan[0]}` : `/v1/hosts/${host.value}/plans/${plan[0]}`);

  function body() {
    const { host: _, plan: __, fleet: ___, name, label, kernel, state, nodes, ...rest } = values(form);
    const found = nodes === undefined ? rest : { ...rest, nodes: numbers(nodes) };
    if (!many.checked) return found;
    const [key, value] = (label || "").split("=");
    return { ...found, filter: { ...(name ? { name } : {}), ...(kernel ? { kernel } : {}), ...(label ? { labels: { [key]: value ?? "" } } : {}), ...(state ? { states: [state] } : {}) } };
  }

  function address() {
    const kept = [...fields.querySelectorAll("[name]"), ...(many.checked ? some.querySelectorAll("[name]") : [])].filter((each) => each.value).map((each) => [each.name, each.value]);
    return `/ui/plans?${new URLSearchParams({ ...(many.checked ? { fleet: "1" } : { host: host.value }), plan: plan[0], ...Object.fromEntries(kept), run: "1" })}`;
  }

  function show() {
    one.hidden = many.checked;
    some.hidden = !many.checked;
    host.required = !many.checked;
  }

  function choose(word) {
    plan = PLANS.find(([each]) => each === word);
    about.textContent = plan[2];
    fields.replaceChildren(...plan[3].map(field));
    for (const input of fields.querySelectorAll("[name]")) if (query.has(input.name)) input.value = query.get(input.name);
    chips.querySelectorAll("input").forEach((chip) => { chip.checked = chip.value === word; });
    result.replaceChildren();
  }

  async function run() {
    history.replaceState(null, "", address());
    stop();
    stop = () => {};
    const [word, title] = plan;
    const isFleet = many.checked;
    const whose = isFleet ? "all hosts of the filter" : host.value;
    const answer = await asking.put(path(), body());
    if (answer === null) return;
    const place = card(`${title}: ${whose}`);
    result.replaceChildren(place);
    stop = (isFleet ? fleetResult(place, answer) : RESULTS[word](place, answer, whose)) || (() => {});
  }

  for (const [word, title] of PLANS) {
    const chip = h("input", { type: "radio", name: "plan", value: word });
    chip.addEventListener("change", () => choose(word));
    chips.append(h("label", {}, chip, h("span", {}, title)));
  }
  form.addEventListener("submit", (event) => { event.preventDefault(); run().catch(context.fail); });
  context.onLeave(() => { asking.stop(); stop(); });
  many.addEventListener("change", show);
  show();
  choose(plan[0]);
  root.replaceChildren(h("h1", {}, "Plans"), h("div", { class: "grid side" }, card("Question", form), result));
  if (query.get("run") && (host.value || many.checked)) await run();
}
