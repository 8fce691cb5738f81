// The memory map: parts of physical memory as coloured cells, down to single pages, and the same as a table.

import { get } from "./api.js";
import { DARK } from "./chart.js";
import { bytes, card, color, h, number, plural, SIZES, swatch } from "./dom.js";
import { blockersOf, pageWalk } from "./walk.js";

const PAGE = 4096;
const HEIGHT = 300; // of the cells, about, in CSS pixels
const LABEL = 18;
const MAX_CELLS = 1024;
const MAX_ROWS = 256;
const MAX_BLOCKS = 200; // that are tried together
const WORDS = ["hugetlb", "buddy", "anon", "cache", "kernel", "contig", "vmemmap", "page-table", "reserved", "lost", "offline", "hole"];
const NAMES = { buddy: "free", hugetlb: "huge pages", anon: "anonymous", cache: "page cache", lost: "lost or bad" };
const HELP = "Memory map. Arrow keys move, Shift with them selects, Enter goes in, Escape goes back. The table below says the same.";
export const nameOf = (word) => NAMES[word] || word.replace("-", " ");

export function memoryMap(host, tryIt) {
  const canvas = h("canvas", { class: "map", role: "application", tabindex: "0", "aria-label": HELP });
  const said = h("p", { class: "quiet said", role: "status" }, "Point at a cell, or use the arrow keys.");
  const legend = h("div", { class: "legend" });
  const rows = h("tbody");
  const crumbs = h("nav", { class: "row crumbs", "aria-label": "Part of memory" });
  const chosen = h("div", { class: "row chosen", "aria-live": "polite" });
  const formable = h("p", { class: "quiet" });
  const details = h("div", { "aria-live": "polite" });
  const view = { picture: null, blockPages: 32768, whole: 1, start: 0, end: null, at: 0, cell: 12, columns: 1, parts: [], chosen: null, pressed: null };

  // -- reading ---------------------------------------------------------------------------------------------

  async function load(shown) {
    if (shown) {
      view.blockPages = shown.memory_blocks.size_bytes / PAGE;
      view.whole = Math.max(view.whole, ...shown.zones.map((zone) => zone.start_pfn + zone.spanned));
    }
    const end = view.end ?? view.whole;
    const query = new URLSearchParams({ start: view.start, bins: cells(end - view.start) });
    if (view.end !== null) query.set("end", view.end);
    const [picture, buddy] = await Promise.all([get(`/v1/hosts/${host}/memory-map?${query}`), shown ? get(`/v1/hosts/${host}/buddy`) : null]);
    if (view.end === null && view.whole !== picture.end_pfn) {
      view.whole = picture.end_pfn; // there is more than the zones said: a cell is to be a block all the same
      return load(shown);
    }
    view.picture = picture;
    if (buddy) formable.textContent = `Could be formed: ${buddy.hugepages.map((each) => `${number(each.now)} pages of ${SIZES[each.size]} now, ` +
      `${number(each.after_compaction)} after compaction, ${number(each.after_reclaim)} without page cache`).join("; ")}.`;
    paint();
    explain();
    fillTable();
    drawCrumbs();
    return picture;
  }

  // A cell is a memory block, a 2 MiB block, or a page, where these are not too many.
  function cells(pages) {
    const unit = [1, 512, view.blockPages].find((each) => pages / each <= MAX_CELLS);
    return Math.max(1, unit ? Math.ceil(pages / unit) : MAX_CELLS);
  }

  const size = (i) => Math.min(view.picture.bin_pages, view.picture.end_pfn - view.picture.bins[i]);
  const uses = (i) => WORDS.filter((word) => view.picture.uses[word]?.[i])
    .map((word) => `${nameOf(word)} ${bytes(view.picture.uses[word][i] * PAGE)}`).join(", ");
  const blockOf = (pfn) => Math.floor(pfn / view.blockPages);

  function title(i) {
    const { picture } = view;
    const pfn = picture.bins[i];
    const word = picture.bin_pages === 1 ? "Page" : picture.bin_pages >= view.blockPages ? `Block ${blockOf(pfn)}, page` : "Pages from";
    return `${word} ${number(pfn)}`;
  }

  function text(i) {
    const { picture } = view;
    const place = picture.node[i] === null ? "" : `, node ${picture.node[i]}${picture.zone[i] ? ` ${picture.zone[i]}` : ""}`;
    const marks = [picture.split_sections[i] ? "vmemmap is split" : "", picture.unmovable_blocks[i] ? "has memory that cannot move" : ""];
    return `${title(i)} (${bytes(size(i) * PAGE)}${place}): ${[uses(i), ...marks].filter(Boolean).join("; ")}.`;
  }

  // -- drawing ---------------------------------------------------------------------------------------------

  // Each node begins a line: its first cell, how many there are, and where they stand.
  function layOut(width) {
    const { picture } = view;
    view.cell = Math.max(8, Math.min(36, Math.floor(Math.sqrt((width * HEIGHT) / picture.bins.length))));
    view.columns = Math.max(1, Math.floor(width / view.cell));
    view.parts = [];
    picture.bins.forEach((_, i) => {
      const node = picture.node[i] ?? view.parts.at(-1)?.node ?? null;
      if (view.parts.length === 0 || view.parts.at(-1).node !== node) view.parts.push({ node, first: i, count: 0 });
      view.parts.at(-1).count += 1;
    });
    let top = 0;
    for (const part of view.parts) {
      part.top = top + LABEL;
      part.rows = Math.ceil(part.count / view.columns);
      top = part.top + part.rows * view.cell + 4;
    }
    return top;
  }

  function place(i) {
    const part = view.parts.findLast((each) => each.first <= i);
    const at = i - part.first;
    return [(at % view.columns) * view.cell, part.top + Math.floor(at / view.columns) * view.cell];
  }

  const words = () => WORDS.filter((word) => view.picture.uses[word]);

  function paint() {
    if (!view.picture) return;
    const width = canvas.clientWidth || 600;
    const height = layOut(width);
    const ratio = window.devicePixelRatio || 1;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.height = `${height}px`;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    const shown = words();
    const colors = Object.fromEntries(shown.map((word) => [word, color(word)]));
    const ink = getComputedStyle(canvas).color;
    pen.font = "12px system-ui, sans-serif";
    pen.fillStyle = ink;
    for (const part of view.parts) pen.fillText(part.node === null ? "No node" : `Node ${part.node}`, 0, part.top - 5);
    view.picture.bins.forEach((_, i) => drawCell(pen, i, shown, colors, ink));
    drawFrames(pen, ink);
  }

  function drawCell(pen, i, shown, colors, ink) {
    const { picture } = view;
    const [left, top] = place(i);
    const side = view.cell - 1;
    const total = shown.reduce((sum, word) => sum + picture.uses[word][i], 0) || 1;
    let x = left;
    for (const word of shown) {
      const part = (picture.uses[word][i] / total) * side;
      if (part === 0) continue;
      pen.fillStyle = colors[word];
      pen.fillRect(x, top, part, side);
      x += part;
    }
    if (picture.split_sections[i]) {
      pen.fillStyle = color("page-table");
      pen.fillRect(left, top + side - 3, side, 3);
    }
    if (i > 0 && left > 0 && picture.zone[i] && picture.zone[i - 1] && picture.zone[i] !== picture.zone[i - 1]) {
      pen.fillStyle = ink;
      pen.fillRect(left - 2, top - 1, 2, view.cell);
    }
  }

  function drawFrames(pen, ink) {
    pen.strokeStyle = ink;
    pen.lineWidth = 2;
    const [from, to] = view.chosen || [view.at, view.at];
    if (!view.chosen && document.activeElement !== canvas) return;
    for (let i = from; i <= to; i += 1) {
      const [left, top] = place(i);
      pen.strokeRect(left + 1, top + 1, view.cell - 3, view.cell - 3);
    }
  }

  function explain() {
    const { picture } = view;
    legend.replaceChildren(...words().map((word) => h("span", {}, swatch(word), nameOf(word))),
      h("span", {}, swatch("page-table"), "line below: vmemmap is split"),
      h("span", {}, `one cell is ${picture.bin_pages === view.blockPages ? "a memory block of " : ""}${bytes(picture.bin_pages * PAGE)}`));
  }

  function fillTable() {
    const { picture } = view;
    rows.replaceChildren(...picture.bins.slice(0, MAX_ROWS).map((pfn, i) => h("tr", {},
      h("th", { scope: "row" }, h("button", { type: "button", class: "link", onclick: () => open(i) }, title(i))),
      h("td", { class: "n" }, bytes(size(i) * PAGE)), h("td", { class: "n" }, String(picture.node[i] ?? "")), h("td", {}, picture.zone[i] ?? ""),
      h("td", { class: "wrap" }, uses(i)), h("td", {}, picture.split_sections[i] ? "split" : ""))));
  }

  function drawCrumbs() {
    const crumb = (words, start, end) => h("button", { type: "button", class: "link", disabled: view.start === start && view.end === end, onclick: () => go(start, end) }, words);
    const steps = [crumb("All memory", 0, null)];
    if (view.end !== null) {
      const block = blockOf(view.start);
      const inBlock = blockOf(view.end - 1) === block;
      if (inBlock) steps.push(crumb(`Block ${block}`, block * view.blockPages, (block + 1) * view.blockPages));
      if (!inBlock || view.end - view.start < view.blockPages) steps.push(crumb(`Pages ${number(view.start)} to ${number(view.end - 1)}`, view.start, view.end));
    }
    crumbs.replaceChildren(...steps.flatMap((step, i) => (i ? [h("span", { "aria-hidden": "true" }, "›"), step] : [step])));
  }

  // -- moving ----------------------------------------------------------------------------------------------

  async function go(start, end) {
    Object.assign(view, { start, end, at: 0, chosen: null });
    details.replaceChildren();
    const picture = await load();
    drawChosen();
    said.textContent = text(0);
    const block = blockOf(start);
    if (end !== null && blockOf(end - 1) === block) details.replaceChildren(await blockersOf(host, block, tryIt));
    return picture;
  }

  async function open(i) {
    const { picture } = view;
    if (!picture || i < 0 || i >= picture.bins.length) return;
    if (picture.bin_pages === 1) details.replaceChildren(await pageWalk(host, picture.bins[i]));
    else await go(picture.bins[i], picture.bins[i] + size(i));
  }

  function point(i) {
    if (!view.picture || i === null || i < 0 || i >= view.picture.bins.length) return;
    view.at = i;
    said.textContent = text(i);
  }

  function choose(from, to) {
    view.chosen = from === to ? null : [Math.min(from, to), Math.max(from, to)];
    paint();
    drawChosen();
  }

  function drawChosen() {
    if (!view.chosen) { chosen.replaceChildren(); return; }
    const [from, to] = view.chosen;
    const start = view.picture.bins[from];
    const end = view.picture.bins[to] + size(to);
    const [first, last] = [blockOf(start), blockOf(end - 1)];
    const blocks = Array.from({ length: Math.min(MAX_BLOCKS, last - first + 1) }, (_, i) => first + i);
    const button = (words, act) => h("button", { type: "button", onclick: act }, words);
    chosen.replaceChildren(h("b", {}, `${bytes((end - start) * PAGE)}: ${first === last ? `in block ${first}` : `blocks ${first} to ${last}`}`),
      button("Zoom in", () => go(start, end)),
      button(`Offline ${plural(blocks.length, "block")}…`, () => tryIt(blocks.map((block) => ({ offline: block })))),
      button("Contiguous range…", () => tryIt([{ alloc_contig: { start_pfn: start, end_pfn: end } }])),
      button("Clear", () => choose(0, 0)));
  }

  function cellAt(event) {
    const box = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const part = view.parts.find((each) => y >= each.top && y < each.top + each.rows * view.cell);
    if (!part) return null;
    const at = Math.floor((y - part.top) / view.cell) * view.columns + Math.floor(x / view.cell);
    return at < part.count && x < view.columns * view.cell ? part.first + at : null;
  }

  const KEYS = { ArrowRight: () => 1, ArrowLeft: () => -1, ArrowDown: () => view.columns, ArrowUp: () => -view.columns };
  canvas.addEventListener("keydown", (event) => {
    if (!view.picture) return;
    const step = KEYS[event.key]?.();
    if (step) {
      event.preventDefault();
      const from = event.shiftKey ? (view.chosen && view.pressed !== null ? view.pressed : view.at) : null;
      point(Math.max(0, Math.min(view.picture.bins.length - 1, view.at + step)));
      view.pressed = from;
      choose(from ?? view.at, view.at);
    }
    if (event.key === "Enter") open(view.at);
    if (event.key === "Escape") go(0, null);
  });
  canvas.addEventListener("pointerdown", (event) => { view.pressed = cellAt(event); });
  canvas.addEventListener("pointermove", (event) => {
    const i = cellAt(event);
    point(i);
    if (event.buttons === 1 && event.pointerType !== "touch" && view.pressed !== null && i !== null) choose(view.pressed, i);
  });
  canvas.addEventListener("pointerup", (event) => {
    const i = cellAt(event);
    if (i !== null && i === view.pressed) open(i);
    view.pressed = null;
  });
  for (const word of ["focus", "blur"]) canvas.addEventListener(word, paint);
  window.addEventListener("resize", paint);
  DARK.addEventListener("change", paint);

  const pfn = h("input", { name: "pfn", type: "number", min: 0, required: true });
  const block = h("input", { name: "block", type: "number", min: 0, required: true });
  const finder = (title, input, words, find) => {
    const form = h("form", { class: "row" }, h("label", {}, title, input), h("button", {}, words));
    form.addEventListener("submit", (event) => { event.preventDefault(); find(Number(input.value)).catch(refused); });
    return form;
  };
  const refused = (error) => { said.textContent = error.problem?.detail || error.message; };
  const find = h("div", { class: "row finders" }, finder("Memory block", block, "Find block", (number) => go(number * view.blockPages, (number + 1) * view.blockPages)),
    finder("Page number", pfn, "Find page", async (number) => {
      const start = Math.floor(number / 512) * 512;
      await go(start, start + 512);
      details.replaceChildren(await pageWalk(host, number));
    }));
  const heads = ["Part", "Size", "Node", "Zone", "Uses", "vmemmap"].map((word) => h("th", { scope: "col" }, word));
  const element = card("Memory map", crumbs, canvas, said, chosen, legend, formable, details, find,
    h("details", {}, h("summary", {}, "As a table"), h("div", { class: "scroll log tall", tabindex: "0" }, h("table", {}, h("thead", {}, h("tr", {}, heads)), rows))));
  return { element, load, stop: () => { window.removeEventListener("resize", paint); DARK.removeEventListener("change", paint); } };
}
