// Nodes as bars: what the memory of each is used for, and its huge pages apart.

import { bytes, card, h, number, SIZES, swatch } from "./dom.js";

const PAGE = 4096;
const SIZE_BYTES = { "2048kB": 2 ** 21, "1048576kB": 2 ** 30 };
const NAMES = { used: "huge pages in use", reserved: "reserved", free: "free huge pages", surplus: "free surplus", buddy: "free memory", anon: "anonymous",
  cache: "page cache", kernel: "kernel", contig: "contiguous ranges", vmemmap: "vmemmap", "page-table": "page tables", reserved_boot: "set aside at boot",
  lost: "lost or bad", offline: "offline", other: "other" };
const COLORS = { used: "hugetlb", reserved: "resv", reserved_boot: "reserved", other: "hole" };

// Bytes of a node by what they are for. Reservations are the host's: those that a node's free pages must serve are drawn there.
function parts(node, uses, reserved) {
  let [used, free, surplus] = [0, 0, 0];
  for (const pool of node.hugepages) {
    const spare = Math.min(pool.surplus_hugepages, pool.free_hugepages);
    used += (pool.nr_hugepages - pool.free_hugepages) * SIZE_BYTES[pool.size];
    surplus += spare * SIZE_BYTES[pool.size];
    free += (pool.free_hugepages - spare) * SIZE_BYTES[pool.size];
  }
  const promised = Math.min(reserved, free);
  const found = [["used", used], ["reserved", promised], ["free", free - promised], ["surplus", surplus]];
  for (const [word, pages] of Object.entries(uses)) {
    if (word === "hugetlb" || word === "hole") continue;
    found.push([word === "reserved" ? "reserved_boot" : word, pages * PAGE]);
  }
  return found.filter(([, size]) => size > 0);
}

export function nodesCard() {
  const place = h("div");
  const legend = h("div", { class: "legend" });
  const element = card("Nodes", place, legend);

  function draw(host, byNode) {
    const seen = new Set();
    let reserved = host.hugepages.reduce((sum, pool) => sum + pool.resv_hugepages * SIZE_BYTES[pool.size], 0);
    const bars = host.nodes.map((node) => {
      const found = parts(node, byNode.find((each) => each.node === node.node)?.uses || {}, reserved);
      reserved -= found.find(([word]) => word === "reserved")?.[1] || 0;
      found.forEach(([word]) => seen.add(word));
      return bar(node, found);
    });
    place.replaceChildren(...bars);
    legend.replaceChildren(...[...seen].map((word) => h("span", {}, swatch(COLORS[word] || word), NAMES[word] || word)));
  }

  return { element, draw };
}

function bar(node, found) {
  const text = found.map(([word, size]) => `${NAMES[word] || word} ${bytes(size)}`).join(", ");
  const drawn = h("div", { class: "bar", role: "img", "aria-label": `Node ${node.node}: ${text}`, title: text });
  for (const [word, size] of found) {
    const part = h("span");
    part.style.background = `var(--c-${COLORS[word] || word})`;
    part.style.flex = `${size} 0 0`;
    drawn.append(part);
  }
  const pools = node.hugepages.filter((pool) => pool.nr_hugepages || pool.size === "2048kB")
    .map((pool) => `${number(pool.nr_hugepages)} × ${SIZES[pool.size]}`).join(", ");
  return h("div", { class: "node" }, h("div", { class: "between" }, h("b", {}, `Node ${node.node}`), h("span", {}, pools),
    h("span", { class: "quiet" }, `${bytes(node.free_bytes)} free of ${bytes(node.total_bytes)}`)), drawn);
}
