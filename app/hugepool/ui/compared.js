// The answer to a question with variants: a row for each, the figure of choice as bars, the best of them marked.

import { bytes, h, number, swatch, table } from "./dom.js";

const TITLES = { "host.spec.kernel": "kernel", "host.spec.cmdline": "command line", host: "host", "steps.grow.resize.count": "pages asked",
  "steps.grow.result.after.nr_hugepages": "pages got", "steps.shrink.result.freed": "came back" };
const title = (path) => TITLES[path] || path.replace(/^steps\./, "");
const FEWER = new Set(["surplus", "refused"]); // of these, less is better

function figures(row, paths) {
  const { counters } = row;
  const pools = counters ? Object.entries(counters).filter(([key]) => key.endsWith("kB")).map(([, pool]) => pool) : [];
  const sum = (key) => pools.reduce((total, pool) => total + pool[key], 0);
  return [...paths.map((path) => [title(path), row.columns[path] ?? null]),
    ...(counters ? [["pages left", sum("nr_hugepages")], ["surplus", sum("surplus_hugepages")], ["free memory", counters.memory.free_bytes, bytes],
      ["saved, net", counters.vmemmap.bytes_saved, bytes]] : []), ["refused", row.refused]];
}

function outcome(row) {
  if (row.error) return `✕ ${row.error.detail || row.error.errno}`;
  const refused = row.steps.map((step) => step.errno && `${step.errno}${step.reason ? ` ${step.reason}` : ""}`).filter(Boolean);
  return refused.length ? `⚠ ${refused.join(", ")}` : "✓ all done";
}

export function compared(answer) {
  const variants = answer.variants || [{ values: {}, columns: {}, counters: answer.steps.at(-1).counters, refused: answer.refused, steps: answer.steps, error: null }];
  const keys = [...new Set(variants.flatMap((row) => Object.keys(row.values)))];
  const paths = [...new Set(variants.flatMap((row) => Object.keys(row.columns)))];
  const all = variants.map((row) => figures(row, paths));
  const names = (all.find((each) => each.length === Math.max(...all.map((row) => row.length))) || []).map(([name]) => name);
  const at = (i, name) => all[i].find(([each]) => each === name);
  const text = (i, name) => { const [, value, show = number] = at(i, name) || []; return typeof value === "number" ? show(value) : value === null || value === undefined ? "–" : String(value); };
  const plain = (value) => (typeof value === "number" ? number(value) : value === "" ? "(none)" : typeof value === "object" ? JSON.stringify(value) : String(value));
  const heads = [...keys.map(title), "outcome", ...names];
  const rows = [heads, ...variants.map((row, i) => [...keys.map((key) => plain(row.values[key])), outcome(row), ...names.map((name) => text(i, name))])];
  const numeric = names.filter((name) => variants.some((_, i) => typeof at(i, name)?.[1] === "number"));
  const choice = h("select", { "aria-label": "Figure of the bars" }, numeric.map((name) => h("option", {}, name)));
  if (numeric.includes("came back")) choice.value = "came back";
  const bars = h("div", { class: "bars" });
  const best = h("p", { class: "sentence", role: "status" });
  const varied = keys.filter((key) => new Set(variants.map((row) => plain(row.values[key]))).size > 1);
  const label = (i) => varied.map((key) => (typeof variants[i].values[key] === "number" ? `${title(key)} ${plain(variants[i].values[key])}` : plain(variants[i].values[key]))).join(" · ") || "as asked";

  function draw() {
    const name = choice.value;
    const found = variants.map((_, i) => at(i, name)?.[1] ?? 0);
    const most = Math.max(1, ...found.map(Math.abs));
    const top = FEWER.has(name) ? Math.min(...found) : Math.max(...found);
    const winners = variants.map((_, i) => i).filter((i) => found[i] === top);
    best.textContent = winners.length === variants.length ? `All are equal: ${name} ${text(0, name)}.`
      : `★ ${FEWER.has(name) ? "Least" : "Most"} ${name}: ${text(winners[0], name)} with ${winners.slice(0, 4).map(label).join("; ")}${winners.length > 4 ? ` and ${winners.length - 4} more` : ""}.`;
    bars.replaceChildren(h("table", {}, h("tbody", {}, variants.map((_, i) => {
      const bar = h("i");
      bar.style.width = `${(Math.abs(found[i]) / most) * 100}%`;
      return h("tr", {}, h("th", { scope: "row", class: "wrap" }, winners.includes(i) && winners.length < variants.length ? "★ " : "", label(i)), h("td", {}, bar), h("td", { class: "n" }, text(i, name)));
    }))));
  }

  choice.addEventListener("change", draw);
  draw();
  const shown = rows.slice(1).map((row) => row.map((cell, i) => (i > keys.length ? h("span", { class: "n" }, cell) : cell)));
  return { rows, element: h("div", {}, best, h("div", { class: "row" }, h("label", {}, "Bars", choice)), bars, h("h3", {}, swatch("hugetlb"), "All figures"), table(heads, shown)) };
}
