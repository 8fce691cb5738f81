// Who uses the memory: tasks, cgroups, ranges and faults, each with what can be done to it.

import { get } from "./api.js";
import { bytes, card, h, number, SIZES } from "./dom.js";

const SHOWN = 50;

export function tasksCard(host, attempt) {
  const place = h("div");
  const audit = h("div", { "aria-live": "polite" });
  const check = h("button", { type: "button" }, "Check all counters");
  const element = card("Who uses the memory", place, h("div", { class: "row" }, check), audit);
  const button = (words, label, act) => h("button", { type: "button", class: "small", "aria-label": label, onclick: act }, words);

  async function load() {
    const path = `/v1/hosts/${host}`;
    const [tasks, cgroups, ranges, faults] = await Promise.all(["tasks?limit=200", "cgroups", "contig-ranges", "faults"].map((each) => get(`${path}/${each}`)));
    const lists = [
      list("Tasks", tasks.items.map(task)), list("Cgroups", cgroups.items.filter((each) => each.path).map(cgroup)),
      list("Contiguous ranges", ranges.items.map(range)), list("Faults", faults.items.filter((each) => each.armed).map(fault)),
    ].flat();
    place.replaceChildren(...(lists.length ? lists : [h("p", { class: "quiet" }, "No task, cgroup, range or fault. Begin one under Try.")]));
  }

  function list(title, items) {
    if (items.length === 0) return [];
    return [h("h3", {}, `${title} (${number(items.length)})`), h("ul", { class: "plain" }, items.slice(0, SHOWN)),
      items.length > SHOWN ? h("p", { class: "quiet" }, `and ${number(items.length - SHOWN)} more`) : null].filter(Boolean);
  }

  const item = (text, more, ...buttons) => h("li", { class: "between" }, h("span", {}, h("b", {}, text), " ", h("span", { class: "quiet" }, more)), h("span", {}, buttons));

  function task(each) {
    const map = each.map || each.maps[0];
    const huge = map ? `${number(each.touched ?? map.touched ?? 0)} of ${number(map.count)} × ${SIZES[map.size]}` : bytes(each.memory_bytes ?? each.pages * 4096);
    return item(`${each.pid} ${each.comm}`, `${each.kind}, ${huge}${each.cgroup ? `, ${each.cgroup}` : ""}`,
      map ? button("Touch…", `Touch pages of task ${each.pid}`, () => attempt.choose("Touch", { pid: each.pid })) : null,
      button("Stop…", `Stop task ${each.pid}`, () => attempt.run([{ exit: each.pid }])));
  }

  function cgroup(each) {
    const text = Object.entries(each.hugetlb).map(([size, row]) => `${SIZES[size]}: ${number(row.current)} of ${row.max === null ? "no limit" : number(row.max)}`).join(", ");
    return item(each.path, text, button("Remove…", `Remove cgroup ${each.path}`, () => attempt.run([{ remove_cgroup: each.path }])));
  }

  const range = (each) => item(`Range ${each.id}`, `pages ${number(each.start_pfn)} to ${number(each.end_pfn - 1)}`,
    button("Free…", `Free range ${each.id}`, () => attempt.run([{ free_contig: each.id }])));
  const fault = (each) => item(each.point, `${each.probability} %, ${each.times < 0 ? "always" : `${number(each.times)} times`}`,
    button("Disarm…", `Disarm ${each.point}`, () => attempt.run([{ clear_fault: each.point }])));

  check.addEventListener("click", async () => {
    const found = await get(`/v1/hosts/${host}/audit`);
    const wrong = found.laws.filter((law) => !law.ok);
    audit.replaceChildren(h("p", { class: found.ok ? "mark good" : "mark bad" }, found.ok ? `✓ ${found.laws.length} laws hold: every counter equals its recount.`
      : `✕ ${wrong.map((law) => `${law.law}: ${law.findings.join(" ") || law.known_defect}`).join("; ")}`));
  });
  return { element, load };
}
