// The memory map: bins of physical memory as coloured cells on a canvas, and the same as a table.

import { get } from "./api.js";
import { bytes, color, h, number } from "./dom.js";

const CELL = 12;
const PAGE = 4096;
const WORDS = ["hugetlb", "buddy", "anon", "cache", "kernel", "contig", "vmemmap", "page-table", "reserved", "lost", "offline", "hole"];
const NAMES = { buddy: "free", hugetlb: "huge pages", anon: "anonymous", cache: "page cache", lost: "lost or bad" };
const name = (word) => NAMES[word] || word.replace("-", " ");

export function memoryMap(host) {
  const canvas = h("canvas", { class: "map", role: "img", tabindex: "0", "aria-label": "Memory map; the table below says the same" });
  const said = h("p", { class: "quiet", role: "status" }, " ");
  const legend = h("div", { class: "legend" });
  const table = h("tbody");
  const back = h("button", { type: "button", hidden: true }, "Back to all memory");
  const details = h("details", {}, h("summary", {}, "As a table"), h("div", { class: "scroll" },
    h("table", {}, h("thead", {}, h("tr", {}, ["First page", "Size", "Node", "Zone", "Uses"].map((t) => h("th", { scope: "col" }, t)))), table)));
  const view = { picture: null, columns: 1, start: 0, end: null, at: 0 };

  async function load() {
    const bins = Math.max(64, Math.min(1024, Math.floor((canvas.clientWidth || 600) / CELL) * 16));
    const query = new URLSearchParams({ start: view.start, bins });
    if (view.end !== null) query.set("end", view.end);
    view.picture = await get(`/v1/hosts/${host}/memory-map?${query}`);
    draw();
  }

  function draw() {
    const { picture } = view;
    if (!picture) return;
    const width = canvas.clientWidth || 600;
    const ratio = window.devicePixelRatio || 1;
    view.columns = Math.max(1, Math.floor(width / CELL));
    const rows = Math.ceil(picture.bins.length / view.columns);
    canvas.width = width * ratio;
    canvas.height = rows * CELL * ratio;
    canvas.style.height = `${rows * CELL}px`;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const words = WORDS.filter((word) => picture.uses[word]);
    const colors = Object.fromEntries(words.map((word) => [word, color(word)]));
    picture.bins.forEach((_, i) => {
      let x = (i % view.columns) * CELL;
      const y = Math.floor(i / view.columns) * CELL;
      const total = words.reduce((sum, word) => sum + picture.uses[word][i], 0) || 1;
      for (const word of words) {
        const part = (picture.uses[word][i] / total) * (CELL - 1);
        if (part === 0) continue;
        pen.fillStyle = colors[word];
        pen.fillRect(x, y, part, CELL - 1);
        x += part;
      }
      if (picture.split_sections[i]) {
        pen.fillStyle = color("page-table");
        pen.fillRect((i % view.columns) * CELL, y + CELL - 3, CELL - 1, 2);
      }
    });
    legend.replaceChildren(...words.map((word) => {
      const box = h("i");
      box.style.background = colors[word];
      return h("span", {}, box, name(word));
    }), h("span", {}, `one cell is ${bytes(picture.bin_pages * PAGE)}; a line below a cell: its vmemmap is split`));
    table.replaceChildren(...picture.bins.slice(0, 256).map((_, i) => h("tr", {},
      h("td", {}, number(picture.bins[i])), h("td", {}, bytes(size(i) * PAGE)), h("td", {}, text(picture.node[i])),
      h("td", {}, text(picture.zone[i])), h("td", { class: "wrap" }, uses(i)))));
    back.hidden = view.end === null;
  }

  const text = (value) => (value === null ? "" : String(value));
  const size = (i) => Math.min(view.picture.bin_pages, view.picture.end_pfn - view.picture.bins[i]);
  const uses = (i) => WORDS.filter((word) => view.picture.uses[word] && view.picture.uses[word][i])
    .map((word) => `${name(word)} ${number(view.picture.uses[word][i])}`).join(", ");

  function describe(i) {
    const { picture } = view;
    if (i < 0 || i >= picture.bins.length) return;
    view.at = i;
    const zone = picture.zone[i] ? `, zone ${picture.zone[i]}` : "";
    said.textContent = `Page ${number(picture.bins[i])}, node ${text(picture.node[i])}${zone}: ${uses(i)} (pages of 4 KiB).`;
  }

  function cellAt(event) {
    const box = canvas.getBoundingClientRect();
    return Math.floor((event.clientY - box.top) / CELL) * view.columns + Math.floor((event.clientX - box.left) / CELL);
  }

  async function open(i) {
    const { picture } = view;
    if (i < 0 || i >= picture.bins.length) return;
    if (picture.bin_pages === 1) {
      const page = await get(`/v1/hosts/${host}/pages/${picture.bins[i]}`);
      said.textContent = `Page ${page.pfn}: ${page.use}, its struct page is at ${page.struct_page ? page.struct_page.virtual_address : "no address"}.`;
      return;
    }
    view.start = picture.bins[i];
    view.end = view.start + size(i);
    await load();
    describe(0);
  }

  canvas.addEventListener("mousemove", (event) => view.picture && describe(cellAt(event)));
  canvas.addEventListener("click", (event) => open(cellAt(event)));
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: view.columns, ArrowUp: -view.columns }[event.key];
    if (step) { event.preventDefault(); describe(view.at + step); }
    if (event.key === "Enter") open(view.at);
    if (event.key === "Escape") back.click();
  });
  back.addEventListener("click", () => { view.start = 0; view.end = null; load(); });
  window.addEventListener("resize", draw);
  const element = h("section", { class: "card" }, h("h2", {}, "Memory map"), canvas, legend, said, back, details);
  return { element, load, stop: () => window.removeEventListener("resize", draw) };
}
