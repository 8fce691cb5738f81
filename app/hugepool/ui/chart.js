// Figures over revisions, drawn by uPlot.

import { get } from "./api.js";
import { bytes, color, h, number } from "./dom.js";

const SERIES = [
  ["pool", "nr_hugepages", "hugetlb"],
  ["asked", "asked_hugepages", "reserved"],
  ["free", "free_hugepages", "free"],
  ["surplus", "surplus_hugepages", "surplus"],
];

export function historyChart(host) {
  const place = h("div", { class: "chart" });
  const element = h("section", { class: "card" }, h("h2", {}, "2 MiB pages by revision"), place);
  let plot = null;

  async function load() {
    const fields = SERIES.map(([, field]) => field).join(",");
    const table = await get(`/v1/hosts/${host}/history?limit=5000&fields=${fields},bytes_saved`);
    const rows = table.rows.filter((row) => row[3] === null && row[4] === "2048kB");
    const data = [rows.map((row) => row[0]), ...SERIES.map((_, i) => rows.map((row) => Math.min(row[5 + i], 2 ** 52)))];
    const ink = getComputedStyle(document.body).color;
    const axis = { stroke: ink, grid: { stroke: color("hole"), width: 1 } };
    const options = {
      width: place.clientWidth || 600,
      height: 240,
      scales: { x: { time: false } },
      axes: [axis, { ...axis, size: 64, values: (_, ticks) => ticks.map(number) }],
      series: [{ label: "revision" }, ...SERIES.map(([label, , word], i) => ({
        label, stroke: color(word), width: 2, dash: i === 1 ? [4, 4] : undefined, paths: window.uPlot.paths.stepped({ align: 1 }),
        value: (_, value) => (value === null ? "" : number(value)),
      }))],
    };
    if (plot) plot.destroy();
    plot = new window.uPlot(options, data, place);
    const last = rows[rows.length - 1];
    if (last) place.setAttribute("aria-label", `Now ${last[5]} pages, ${last[8]} of them surplus, ${bytes(last[9])} saved`);
  }

  const resize = () => plot && plot.setSize({ width: place.clientWidth, height: 240 });
  window.addEventListener("resize", resize);
  return { element, load, stop: () => { window.removeEventListener("resize", resize); if (plot) plot.destroy(); } };
}
