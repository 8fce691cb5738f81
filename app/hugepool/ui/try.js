// Forms for all that can be done to a host. Each makes a step; a trial runs it on a copy first.

import { card, h } from "./dom.js";
import { trial } from "./trial.js";
import { scenarioCard } from "./scenario.js";

const size = (first) => ["size", "Size", { options: first === "1 GiB" ? [["1048576kB", "1 GiB"]] : [["2048kB", "2 MiB"], ["1048576kB", "1 GiB"]] }];
const count = (title = "Pages", more = {}) => ["count", title, { type: "number", min: 0, value: 0, required: true, ...more }];
const node = ["node", "Node", { type: "number", min: 0, placeholder: "all" }];
const text = (name, title, more) => [name, title, { type: "text", ...more }];
const choice = (name, title, words) => [name, title, { options: words.map((word) => (Array.isArray(word) ? word : [word, word])) }];
const POINTS = ["vmemmap-restore", "vmemmap-page-table", "hugepage-alloc", "migration-target", "vmemmap-head-frame"];
const VM = "/proc/sys/vm";

// Title, fields, and the step that their values make. Empty fields are left out of the values.
const FORMS = [
  ["Resize", [size(), count(), node], (v) => ({ resize: v })],
  ["Demote", [size("1 GiB"), count(), node], (v) => ({ demote: v })],
  ["Overcommit", [size(), count("Surplus pages allowed")], (v) => ({ overcommit: v })],
  ["Block", [count("Block"), choice("state", "State", ["offline", "online", "online_kernel", "online_movable"])], (v) => ({ [v.state]: v.count })],
  ["Contiguous range", [count("Pages of 4 KiB", { min: 1, value: 512 }), node], (v) => ({ alloc_contig: { nr_pages: v.count, ...(v.node === undefined ? {} : { node: v.node }) } })],
  ["Huge page task", [size(), count("Pages mapped", { min: 1, value: 8 }), ["touch", "Touched", { type: "number", min: 0, value: 8 }],
    ["shared", "Shared", { type: "checkbox" }], text("file", "File", { placeholder: "none" }), text("cgroup", "Cgroup", { placeholder: "root" })], (v) => ({ task: { kind: "hugetlb", ...v } })],
  ["Memory task", [choice("kind", "Kind", [["anon", "anonymous"], ["kernel", "kernel"]]), text("memory", "Memory", { value: "1G", required: true, pattern: "[0-9]+[KMGTkmgt]?" }), node], (v) => ({ task: v })],
  ["Touch", [["pid", "Task", { type: "number", min: 1, required: true }], count("Pages", { value: 1 })], (v) => ({ touch: v })],
  ["Stop", [["pid", "Task", { type: "number", min: 1, required: true }]], (v) => ({ exit: v.pid })],
  ["Cgroup", [text("path", "Path", { value: "pods/a", required: true }), size(), ["max", "Most pages", { type: "number", min: 0, placeholder: "no limit" }],
    ["rsvd_max", "Most reserved", { type: "number", min: 0, placeholder: "no limit" }]],
  (v) => ({ cgroup: { path: v.path, hugetlb: { [v.size]: { max: v.max ?? null, rsvd_max: v.rsvd_max ?? null } } } })],
  ["Fault", [choice("point", "Point", POINTS), ["probability", "Percent", { type: "number", min: 0, max: 100, value: 100 }],
    ["times", "Times (−1: always)", { type: "number", min: -1, value: -1 }]], (v) => ({ fault: v })],
  ["Disarm", [choice("point", "Point", POINTS)], (v) => ({ clear_fault: v.point })],
  ["Deferred frees", [], () => ({ drain: null })],
  ["Drop caches", [choice("what", "What", [["1", "page cache"], ["2", "slab"], ["3", "both"]])], (v) => ({ write: `${VM}/drop_caches`, data: `${v.what}\n` })],
  ["Compact", [], () => ({ write: `${VM}/compact_memory`, data: "1\n" })],
];

export function field([name, title, { options, ...more }]) {
  const input = options ? h("select", { name }, options.map(([value, shown]) => h("option", { value }, shown)))
    : h("input", { name, step: more.type === "number" ? 1 : null, autocomplete: "off", ...more });
  return h("label", { class: more.type === "checkbox" ? "check" : null }, title, input);
}

export function values(form) {
  const found = {};
  for (const input of form.elements) {
    if (!input.name || input.name === "what-to-do") continue;
    if (input.type === "checkbox") { if (input.checked) found[input.name] = true; }
    else if (input.value !== "") found[input.name] = input.type === "number" ? Number(input.value) : input.value;
  }
  return found;
}

export function tryCard(host, context, changed) {
  const run = trial(host, context, changed);
  const chips = h("fieldset", { class: "chips" }, h("legend", { class: "hidden" }, "What to do"));
  const fields = h("div", { class: "row" });
  const form = h("form", {}, chips, fields);
  let chosen = FORMS[0];

  function choose(title, given = {}) {
    chosen = FORMS.find(([each]) => each === title);
    chips.querySelectorAll("input").forEach((chip) => { chip.checked = chip.value === title; });
    fields.replaceChildren(...chosen[1].map(field), h("button", {}, "Dry run"));
    for (const [name, value] of Object.entries(given)) form.elements[name].value = value;
    run.clear();
  }

  for (const [title] of FORMS) {
    const chip = h("input", { type: "radio", name: "what-to-do", value: title });
    chip.addEventListener("change", () => choose(title));
    chips.append(h("label", {}, chip, h("span", {}, title)));
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run.run([chosen[2](values(form))]);
  });
  fields.addEventListener("input", run.clear);
  choose("Resize");
  const scenario = scenarioCard(host, run);
  const element = card("Try", form, run.element);
  const show = (act) => { act(); element.scrollIntoView({ block: "nearest" }); };
  return {
    element,
    scenario: scenario.element,
    stop: scenario.stop,
    run: (steps) => show(() => run.run(steps)),
    choose: (title, given) => show(() => choose(title, given)),
  };
}
