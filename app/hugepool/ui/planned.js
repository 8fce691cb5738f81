// Answers of plans: a sentence first, then the figures.

import { lines } from "./chart.js";
import { bytes, facts, h, number, plural, SIZES, table } from "./dom.js";

const say = (...words) => h("p", { class: "sentence" }, ...words);
const reason = (word) => (word === "keep" ? "the memory to keep" : word === null ? "nothing that was looked at" : word.replaceAll("-", " "));
const MAX_ROWS = 300;

function maxPool(place, found) {
  const { pool } = found;
  const more = pool.one_more ? ` One page more leaves ${bytes(pool.one_more.available_bytes)}.` : "";
  place.append(say(pool.nr_hugepages === null ? `No pool leaves ${bytes(found.keep_bytes)} available: ${reason(pool.limited_by)}.`
    : `Write ${number(pool.nr_hugepages)}: then ${bytes(pool.available_bytes)} stay available. The limit is ${reason(pool.limited_by)}.${more}`),
  table(["When written to", "Pages", "Available then", "Limit"], [["all nodes", pool.nr_hugepages ?? "none", bytes(pool.available_bytes), reason(pool.limited_by)],
    ...found.nodes.map((each) => [`node ${each.node} alone`, each.nr_hugepages ?? "none", bytes(each.available_bytes), reason(each.limited_by)])]));
}

function savings(place, found) {
  place.append(say(`${plural(found.possible, "page")} of ${SIZES[found.size]} give back ${bytes(found.net_bytes)} net${found.assumed ? ", if the host freed vmemmap, which it does not" : ""}: ` +
    `${bytes(found.gross_bytes)} less ${bytes(found.page_table_bytes)} of page tables. The pool itself has ${bytes(found.pool_bytes)}.`),
  found.possible < found.count ? say(`⚠ ${number(found.count)} were asked for; ${number(found.possible)} are possible.`) : "",
  table(["Node", "Pages", "Net", "By zone"], found.nodes.map((each) => [`node ${each.node}`, each.hugepages, bytes(each.net_bytes), each.zones.map((zone) => `${zone.zone} ${bytes(zone.net_bytes)}`).join(", ")])));
}

function headroom(place, found) {
  const charts = found.domains.map((domain) => {
    const name = `${domain.nodes.length === 1 ? "Node" : "Nodes"} ${domain.nodes.join(", ")}`;
    const chart = h("div", { class: "chart", role: "img", "aria-label": `${name}: pages given back by the memory left; the table says the same` });
    const isEnough = domain.available_bytes >= domain.needed_bytes;
    place.append(h("h3", {}, name), say(h("span", { class: isEnough ? "mark good" : "mark bad" }, isEnough ? "✓ enough" : "✕ too little"),
      ` ${bytes(domain.needed_bytes)} must stay free above the watermarks so that ${plural(domain.count, "page")} can be given back; ${bytes(domain.available_bytes)} are there.`), chart,
    h("details", {}, h("summary", {}, "As a table"), table(["Left", "Given back"], domain.curve.map((point) => [bytes(point.left_bytes), point.freed]))));
    return [chart, domain];
  });
  const plots = charts.filter(([, domain]) => domain.curve.length > 1).map(([chart, domain]) => lines(chart, [domain.curve.map((p) => p.left_bytes), domain.curve.map((p) => p.freed)],
    [["pages given back", "hugetlb"]], { x: "left", showX: bytes, stepped: false }));
  return () => plots.forEach((plot) => plot.destroy());
}

function offline(place, found) {
  const { together, blocks } = found;
  const able = blocks.filter((block) => block.can_offline).length;
  place.append(say(`${number(able)} of ${plural(blocks.length, "block")} can go offline alone. Together ${bytes(together.bytes)} go${found.wanted_bytes ? `, of ${bytes(found.wanted_bytes)} wanted: ${together.enough ? "✓ enough" : "✕ not enough"}` : ""}; ` +
    `${plural(together.pages_moved, "page")} move and ${number(together.hugepages_lost)} × 2 MiB of the pools are lost.`), h("details", {}, h("summary", {}, "Blocks in this order"), h("p", {}, together.blocks.join(", ") || "none")),
  table(["Block", "Node", "Zones", "Huge pages", "To move", "Alone"], blocks.slice(0, MAX_ROWS).map((each) => [`block ${each.block}`, each.node === null ? "" : String(each.node), each.zones.join(" "),
    each.hugepages, each.movable_pages, each.can_offline ? "✓ yes" : `✕ ${each.reason || each.errno}`])), blocks.length > MAX_ROWS ? h("p", { class: "quiet" }, `and ${number(blocks.length - MAX_ROWS)} more`) : "");
}

function placement(place, found, host) {
  const start = (each, when) => `${each.fits ? "✓" : "✕"} ${when} it ${each.fits ? "starts" : `does not start: ${each.errno || each.signal}${each.reason ? `, ${reason(each.reason)}` : ""}`}.`;
  place.append(say(`It needs ${plural(found.count, "page")} of ${SIZES[found.size]}. ${start(found.now, "Now")} ${start(found.when_touched, "When programs have touched all that they mapped,")}`));
  const { change } = found;
  if (change) place.append(say(change.works ? `Write ${change.write.map((each) => `${number(each.nr_hugepages)} to node ${each.node}`).join(", ")}; tried: then it starts. ` : `Nothing that can be written helps: ${number(change.missing)} pages are missing, by ${reason(change.limited_by)}. `,
    h("a", { href: `/ui/hosts/${host}` }, `Open ${host}`)));
  place.append(table(["Node", "Free pages", "Free when all is touched"], found.nodes.map((each) => [`node ${each.node}`, each.free_hugepages, each.free_when_touched])));
}

function churn(place, found) {
  const rows = Object.keys(found.now).flatMap((size) => [["while programs run", found.running[size]], ["when all that can move is free", found.after_exit[size]]]
    .map(([when, p]) => [`${SIZES[size]} ${when}`, found.now[size], p.p0, p.p5, p.p25, p.p50, p.p75, p.p95, p.p100]));
  const size = Object.keys(found.now)[0];
  place.append(say(`${number(found.now[size])} pages of ${SIZES[size]} can be formed now. After ${plural(found.rounds, "round")} it is ${number(found.running[size].p50)} in half of the histories while programs run, ` +
    `and ${number(found.running[size].p5)} or fewer in one of twenty.`), h("div", { class: "bars" }, h("table", {}, h("tbody", {}, rows.map(([title, now, , , , p50]) => {
    const bar = h("i");
    bar.style.width = `${now ? Math.min(100, (p50 / now) * 100) : 0}%`;
    return h("tr", {}, h("th", { scope: "row", class: "wrap" }, title), h("td", {}, bar), h("td", { class: "n" }, now ? `${Math.round((p50 / now) * 100)} % of now` : "–"));
  })))), h("h3", {}, "Percentiles over the histories"), table(["Pages", "Now", "Least", "5 %", "25 %", "50 %", "75 %", "95 %", "Most"], rows));
}

// What a host's answer comes to, in a few figures of the table of all hosts.
const BRIEF = {
  "max-pool": (x) => [["pages", x.pool.nr_hugepages ?? "none"], ["available then", bytes(x.pool.available_bytes)], ["limit", reason(x.pool.limited_by)]],
  savings: (x) => [["possible", x.possible], ["net", bytes(x.net_bytes)], ["assumed", x.assumed ? "yes" : "no"]],
  headroom: (x) => { const sum = (key) => x.domains.reduce((total, each) => total + each[key], 0);
    return [["pages", x.count], ["needed", bytes(sum("needed_bytes"))], ["there", bytes(sum("available_bytes"))], ["enough", x.domains.every((each) => each.available_bytes >= each.needed_bytes) ? "✓ yes" : "✕ no"]]; },
  offline: (x) => [["together", bytes(x.together.bytes)], ["enough", x.together.enough ? "✓ yes" : "✕ no"], ["pages lost", x.together.hugepages_lost]],
  placement: (x) => [["now", x.now.fits ? "✓ starts" : "✕ does not"], ["when all is touched", x.when_touched.fits ? "✓ starts" : "✕ does not"], ["after a change", x.change ? (x.change.works ? "✓ starts" : "✕ does not") : "–"]],
  churn: (x) => Object.keys(x.now).flatMap((size) => [[`${SIZES[size]} now`, x.now[size]], [`${SIZES[size]} half of the time`, x.running[size].p50]]),
};

export function fleetResult(place, { plan, totals, hosts }) {
  const brief = hosts.map((row) => (row.answer ? BRIEF[plan](row.answer) : null));
  const heads = (brief.find(Boolean) || []).map(([title]) => title);
  const detail = h("div", { "aria-live": "polite" });
  let stop = () => {};
  const open = (row) => {
    stop();
    detail.replaceChildren(h("h3", {}, row.host));
    stop = RESULTS[plan](detail, row.answer, row.host) || (() => {});
  };
  const name = (row) => (row.answer ? h("button", { type: "button", class: "link", onclick: () => open(row) }, row.host) : row.host);
  place.append(facts(Object.entries(totals).map(([key, value]) => [key.replace(/_bytes$/, "").replaceAll("_", " "), key.endsWith("bytes") ? bytes(value) : number(value)])),
    hosts.length ? table(["Host", ...heads, "Refused"], hosts.slice(0, MAX_ROWS).map((row, i) => [name(row), ...(brief[i]?.map(([, value]) => value) || heads.map(() => "–")), row.error ? `✕ ${row.error.detail}` : ""])) : say("No host fits."),
    hosts.length > MAX_ROWS ? h("p", { class: "quiet" }, `and ${number(hosts.length - MAX_ROWS)} more`) : "", detail);
  return () => stop();
}

export const RESULTS = { "max-pool": maxPool, savings, headroom, offline, placement, churn };
