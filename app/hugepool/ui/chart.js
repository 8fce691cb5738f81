// Figures over revisions or time, drawn by uPlot, with a mark for every change, and the same as a table.

import { get } from "./api.js";
import { bytes, card, color, h, number, SIZES, table } from "./dom.js";

const MAX_COUNT = 2 ** 52; // counters that went below zero are near 2**64
const GROUPS = {
  pages: [["pool", "nr_hugepages", "hugetlb"], ["asked", "asked_hugepages", "reserved"], ["free", "free_hugepages", "free"], ["surplus", "surplus_hugepages", "surplus"]],
  memory: [["available", "available_bytes", "available"], ["free", "free_bytes", "free"], ["saved, net", "bytes_saved", "vmemmap"]],
};

// Pages without a chart do not wait for the library.
await new Promise((done, fail) => {
  const script = h("script", { src: "/ui/assets/vendor/uPlot.iife.min.js", onload: done, onerror: () => fail(new TypeError("Failed to fetch the charts")) });
  document.head.append(script);
});

export const DARK = window.matchMedia("(prefers-color-scheme: dark)");
const WHOLE = Array.from({ length: 40 }, (_, i) => [1, 2, 5][i % 3] * 10 ** Math.floor(i / 3)); // steps of an axis of whole numbers
const KEYS = 5; // columns before the figures: revision, at, cause, node, size

// A line chart of columns; `series` are [title, word of a colour]. Used for plans as well.
export function lines(place, data, series, { time = false, show = number, x = "revision", showX = null, marks = [], stepped = true } = {}) {
  const ink = getComputedStyle(document.body).color;
  const axis = { stroke: ink, grid: { stroke: color("hole"), width: 1 }, ticks: { stroke: color("hole") }, font: "12px system-ui, sans-serif" };
  const drawMarks = (plot) => {
    const pen = plot.ctx;
    pen.fillStyle = color("surplus");
    for (const at of marks) {
      const left = plot.valToPos(at, "x", true);
      pen.beginPath();
      pen.moveTo(left, plot.bbox.top + plot.bbox.height);
      pen.lineTo(left - 5, plot.bbox.top + plot.bbox.height + 8);
      pen.lineTo(left + 5, plot.bbox.top + plot.bbox.height + 8);
      pen.fill();
    }
  };
  return new window.uPlot({
    width: place.clientWidth || 600,
    height: 250,
    scales: { x: { time } },
    hooks: { draw: [drawMarks] },
    axes: [{ ...axis, ...(showX ? { values: (_, ticks) => ticks.map(showX), space: 90 } : time ? {} : { incrs: WHOLE }) }, { ...axis, size: 76, values: (_, ticks) => ticks.map(show) }],
    series: [{ label: x, ...(showX ? { value: (_, value) => (value === null ? "–" : showX(value)) } : {}) }, ...series.map(([label, word], i) => ({
      label, stroke: color(word), width: 2, dash: [undefined, [7, 4], [2, 3], [9, 3, 2, 3]][i % 4],
      paths: stepped ? window.uPlot.paths.stepped({ align: 1 }) : undefined, value: (_, value) => (value === null ? "–" : show(value)),
    }))],
  }, data, place);
}

const choose = (title, options) => h("select", { "aria-label": title }, Object.entries(options).map(([value, words]) => h("option", { value }, words)));

export function historyChart(host) {
  const place = h("div", { class: "chart", role: "img" });
  const marked = h("p", { class: "quiet" });
  const said = h("div");
  const group = choose("What is shown", { pages: "Huge pages", memory: "Memory" });
  const size = choose("Page size", Object.fromEntries(Object.entries(SIZES).map(([word, title]) => [word, `${title} pages`])));
  const over = choose("Over", { revision: "by revision", time: "by time" });
  const element = card("What happened", h("div", { class: "row" }, group, size, over), place, marked,
    h("details", {}, h("summary", {}, "As a table"), said));
  let plot = null;
  let rows = [];

  async function load() {
    const fields = Object.values(GROUPS).flat().map(([, field]) => field).join(",");
    const answer = await get(`/v1/hosts/${host}/history?limit=5000&fields=${fields}`);
    rows = answer.rows.filter((row) => row[3] === null);
    draw();
  }

  function draw() {
    const series = GROUPS[group.value];
    const isMemory = group.value === "memory";
    const show = isMemory ? bytes : number;
    const at = Object.values(GROUPS).flat().map(([, field]) => field);
    const mine = rows.filter((row) => row[4] === size.value);
    const value = (row, field) => { const found = row[KEYS + at.lastIndexOf(field)]; return found === null ? null : Math.min(found, MAX_COUNT); };
    const byTime = over.value === "time";
    const xs = mine.map((row) => (byTime ? Date.parse(row[1]) / 1000 : row[0]));
    const marks = mine.map((row, i) => [xs[i], row[2]]).filter(([, cause]) => cause && cause !== "PoolResized");
    if (plot) plot.destroy();
    plot = lines(place, [xs, ...series.map(([, field]) => mine.map((row) => value(row, field)))], series.map(([title, , word]) => [title, word]),
      { time: byTime, show, x: byTime ? "time" : "revision", marks: marks.map(([x]) => x) });
    const last = mine.at(-1);
    place.setAttribute("aria-label", last ? `Now ${series.map(([title, field]) => `${title} ${show(value(last, field) ?? 0)}`).join(", ")}` : "Nothing yet");
    const kinds = [...new Set(marks.map(([, cause]) => cause))];
    marked.textContent = kinds.length ? `▲ other changes: ${kinds.slice(0, 8).join(", ")}` : "";
    said.replaceChildren(table(["Revision", "Change", ...series.map(([title]) => title)],
      mine.slice(-50).reverse().map((row) => [row[0], row[2], ...series.map(([, field]) => show(value(row, field) ?? 0))])));
  }

  const resize = () => plot && plot.setSize({ width: place.clientWidth, height: 250 });
  for (const choice of [group, size, over, DARK]) choice.addEventListener("change", draw);
  window.addEventListener("resize", resize);
  const stop = () => {
    window.removeEventListener("resize", resize);
    DARK.removeEventListener("change", draw);
    if (plot) plot.destroy();
  };
  return { element, load, stop };
}
