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

const memory = (name = "memory", title = "Memory", value = "1G") => text(name, title, { value, required: true, pattern: "[0-9]+[KMGTkmgt]?" });
const pid = ["pid", "Task", { type: "number", min: 1, required: true }];
const home = ["node", "Node", { type: "number", min: 0, value: 0, required: true }];
const USES = { anon: { kind: "anon" }, pinned: { kind: "anon", pinned: true }, kernel: { kind: "kernel" }, cache: { kind: "cache" }, dirty: { kind: "cache", clean: false } };

// In groups: title, fields, and the step that their values make. Empty fields are left out of the values.
const GROUPS = {
  Pool: [
    ["Resize", [size(), count(), node], (v) => ({ resize: v })],
    ["Demote", [size("1 GiB"), count(), node], (v) => ({ demote: v })],
    ["Overcommit", [size(), count("Surplus pages allowed")], (v) => ({ overcommit: v })],
    ["Deferred frees", [], () => ({ drain: null })],
  ],
  Programs: [
    ["Huge page task", [size(), count("Pages mapped", { min: 1, value: 8 }), ["touch", "Touched", { type: "number", min: 0, value: 8 }],
      ["shared", "Shared", { type: "checkbox" }], text("file", "File", { placeholder: "none" }), text("cgroup", "Cgroup", { placeholder: "root" })], (v) => ({ task: { kind: "hugetlb", ...v } })],
    ["Memory task", [choice("kind", "Kind", [["anon", "anonymous"], ["pinned", "anonymous, pinned"], ["kernel", "kernel"], ["cache", "page cache"], ["dirty", "page cache, dirty"]]), memory(), node],
      ({ kind, ...v }) => ({ task: { ...USES[kind], ...v } })],
    ["Touch", [pid, count("Pages", { value: 1 })], (v) => ({ touch: v })],
    ["Stop", [pid], (v) => ({ exit: v.pid })],
    ["Cgroup", [text("path", "Path", { value: "pods/a", required: true }), size(), ["max", "Most pages", { type: "number", min: 0, placeholder: "no limit" }],
      ["rsvd_max", "Most reserved", { type: "number", min: 0, placeholder: "no limit" }]],
    (v) => ({ cgroup: { path: v.path, hugetlb: { [v.size]: { max: v.max ?? null, rsvd_max: v.rsvd_max ?? null } } } })],
  ],
  Memory: [
    ["Block", [count("Block"), choice("state", "State", ["offline", "online", "online_kernel", "online_movable"])], (v) => ({ [v.state]: v.count })],
    ["Add blocks", [home, memory()], (v) => ({ add_memory: v })],
    ["Remove block", [count("Block")], (v) => ({ remove_memory: v.count })],
    ["Contiguous range", [count("Pages of 4 KiB", { min: 1, value: 512 }), node], ({ count: nr_pages, ...v }) => ({ alloc_contig: { nr_pages, ...v } })],
    ["virtio-mem", [text("id", "Device", { value: "vm0", required: true }), home, memory("max", "At most", "1G"), memory("requested", "Requested", "512M")], (v) => ({ virtio_mem: v })],
    ["virtio-mem request", [text("id", "Device", { value: "vm0", required: true }), memory("requested", "Requested", "0")], (v) => ({ request_virtio_mem: v })],
  ],
  Kernel: [
    ["Drop caches", [choice("what", "What", [["1", "page cache"], ["2", "slab"], ["3", "both"]])], (v) => ({ write: `${VM}/drop_caches`, data: `${v.what}\n` })],
    ["Compact", [], () => ({ write: `${VM}/compact_memory`, data: "1\n" })],
    ["Fault", [choice("point", "Point", POINTS), ["probability", "Percent", { type: "number", min: 0, max: 100, value: 100 }],
      ["times", "Times (−1: always)", { type: "number", min: -1, value: -1 }]], (v) => ({ fault: v })],
    ["Disarm", [choice("point", "Point", POINTS)], (v) => ({ clear_fault: v.point })],
  ],
};
const FORMS = Object.values(GROUPS).flat();

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

  for (const [group, forms] of Object.entries(GROUPS)) {
    chips.append(h("b", { class: "quiet group" }, group));
    for (const [title] of forms) {
      const chip = h("input", { type: "radio", name: "what-to-do", value: title });
      chip.addEventListener("change", () => choose(title));
      chips.append(h("label", {}, chip, h("span", {}, title)));
    }
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
