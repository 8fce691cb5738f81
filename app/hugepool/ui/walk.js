// A page, and a memory block, in words: what it is, who has it, and what keeps it from going offline.

import { get, Refused } from "./api.js";
import { bytes, copyButton, facts, h, number, plural, SIZES } from "./dom.js";
import { asCurl } from "./steps.js";

const list = (pairs) => facts(pairs.filter(([, value]) => value !== null && value !== undefined && value !== ""));
const curl = (path) => copyButton("Copy as curl", asCurl({ method: "GET", path }));
const shown = (value) => (value === null || typeof value !== "object" ? value
  : Object.entries(value).map(([key, each]) => `${key.replaceAll("_", " ")} ${Array.isArray(each) ? each.join(" ") : each}`).join(", "));

// What is at an address; or a sentence that says why there is nothing.
async function lookUp(path) {
  try {
    return [await get(path), null];
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return [null, h("p", { class: "sentence" }, error.problem.detail)];
  }
}

export async function pageWalk(host, pfn) {
  const path = `/v1/hosts/${host}/pages/${pfn}`;
  const [page, refusal] = await lookUp(path);
  if (refusal) return refusal;
  const { struct_page: walk, ...rest } = page;
  const known = ["pfn", "use", "node", "zone", "section", "block", "pageblock_migratetype"];
  const more = Object.entries(rest).filter(([key, value]) => !known.includes(key) && value !== null);
  return h("div", { class: "walk" }, h("h3", {}, `Page ${number(page.pfn)}: ${page.use}`), list([
    ["Address", `0x${(page.pfn * 4096).toString(16)}`], ["Node and zone", `${page.node} ${page.zone ?? ""}`],
    ["Memory block", String(page.block)], ["Section", String(page.section)], ["Migratetype", page.pageblock_migratetype],
    ...more.map(([key, value]) => [key.replaceAll("_", " "), String(shown(value))]),
    ["Its struct page", walk ? `${walk.virtual_address} → frame ${number(walk.pfn)}, mapped by ${walk.mapping === "pmd" ? "one PMD" : "a page table"}, ` +
      `${walk.writable ? "writable" : "read-only: shared by the tail pages"}` : "not mapped"],
  ]), curl(path));
}

export async function blockersOf(host, block, tryIt) {
  const path = `/v1/hosts/${host}/memory-blocks/${block}/blockers`;
  const [found, refusal] = await lookUp(path);
  if (refusal) return refusal;
  const verdict = found.can_offline ? "can go offline" : `cannot go offline: ${found.detail || found.reason || found.errno}`;
  return h("div", { class: "walk" }, h("h3", {}, `Block ${block} ${verdict}`), list([
    ["Zones", found.zones.join(", ")], ["To move", `${plural(found.movable_pages, "page")}${tasks(found.movable_pids)}`],
    ...found.unmovable.map((each) => [`Unmovable: ${each.use}`, `${bytes(each.pages * 4096)}, first page ${number(each.first_pfn)}${tasks(each.pids)}`]),
    ...found.hugepages.filter((each) => each.free + each.in_use).map((each) => [`${SIZES[each.size]} pages`,
      `${number(each.free)} free, ${number(each.in_use)} in use${tasks(each.pids)}; ${number(each.vmemmap_pages_needed)} pages are needed for their vmemmap, ` +
      `${number(found.vmemmap_pages_available)} are there`]),
  ]), h("div", { class: "row" }, h("button", { type: "button", onclick: () => tryIt([{ offline: block }]) }, "Try offline…"), curl(path)));
}

const tasks = (pids) => (pids.length ? `, tasks ${pids.slice(0, 8).join(" ")}${pids.length > 8 ? " …" : ""}` : "");
