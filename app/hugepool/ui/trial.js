// A trial: steps run on a copy first, with figures before and after; then for real, and back again.

import { ask, get, Refused } from "./api.js";
import { bytes, copyButton, fill, h, number, SIZES } from "./dom.js";
import { questions } from "./jobs.js";
import { remedy } from "./remedy.js";
import { addToScenario } from "./scenario.js";
import { asCurl, brief, request, sentence } from "./steps.js";
import { keepCopy, wayBack } from "./undo.js";

const POOL = [["pages", "nr_hugepages"], ["free", "free_hugepages"], ["reserved", "resv_hugepages"], ["surplus", "surplus_hugepages"]];

// Figures of a host as rows: title, value, how it is shown.
function figures(counters) {
  const pools = Object.entries(SIZES).filter(([size]) => counters[size])
    .flatMap(([size, title]) => POOL.map(([word, key]) => [`${title} ${word}`, counters[size][key], number]));
  return [...pools, ["Free memory", counters.memory.free_bytes, bytes], ["Saved, net", counters.vmemmap.bytes_saved, bytes],
    ["Blocks offline", counters.memory_blocks.offline, number], ["Waiting to be freed", counters.deferred_frees, number]];
}

function comparison(before, after) {
  const now = figures(before);
  const then = figures(after);
  const rows = now.map(([title, value, show], i) => [title, value, then[i][1], show]).filter(([, a, b], i) => i === 0 || a !== b);
  return h("table", { class: "compact" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Figure"),
    ["Now", "Then", "Change"].map((title) => h("th", { scope: "col", class: "n" }, title)))),
  h("tbody", {}, rows.map(([title, a, b, show]) => h("tr", {}, h("th", { scope: "row" }, title), h("td", { class: "n" }, show(a)),
    h("td", { class: "n" }, show(b)), h("td", { class: "n" }, a === b ? "none" : `${b > a ? "▲ +" : "▼ "}${show(b - a)}`)))));
}

// Null when it was refused, which is said already, or cancelled.
async function dryRun(asking, host, steps) {
  const seen = await ask(`/v1/hosts/${host}`);
  const content = await asking.put("/v1/what-if", { host, steps: [{ read: "/proc/meminfo" }, ...steps] });
  if (content === null) return null;
  const [first, ...answers] = content.steps;
  return { etag: seen.etag, before: first.counters, after: answers.at(-1).counters, answers };
}

async function send(host, steps, etag) {
  let more = { "If-Match": etag };
  const done = [];
  for (const step of steps) {
    const { method, path, body, raw } = request(host, step);
    try {
      const { content } = await ask(path, { method, body, raw, more });
      done.push({ step, result: content });
    } catch (error) {
      if (!(error instanceof Refused) || [401, 403, 412].includes(error.status)) throw error;
      done.push({ step, result: error.problem.result, problem: error.problem });
    }
    more = {}; // the first one has met the revision that was tried
  }
  return done;
}

export function trial(host, context, changed) {
  const element = h("div", { class: "trial", "aria-live": "polite" });
  const asking = questions(element, context.fail);

  const lines = (steps, each) => h("ul", { class: "plain" }, steps.map((step, i) => {
    const { result, problem } = each(i);
    return h("li", {}, h("span", { class: problem ? "mark bad" : "mark good" }, problem ? "✕ refused" : "✓ done"), " ",
      steps.length > 1 ? h("code", {}, brief(step)) : null, steps.length > 1 ? " " : null, sentence(step, result, problem));
  }));

  async function run(steps) {
    try {
      const tried = await dryRun(asking, host, steps);
      if (tried !== null) show(steps, tried);
    } catch (error) {
      report(error);
    }
  }

  function show(steps, tried) {
    const { answers } = tried;
    const offered = answers.flatMap((answer) => [...answer.remedies, ...(answer.result?.shortfall?.remedies || [])]);
    const helpful = [...new Map(offered.map((each) => [each.text, each])).values()];
    const console_ = answers.flatMap((answer) => answer.console);
    const apply = h("button", { type: "button", class: "main" }, "Apply");
    const add = h("button", { type: "button" }, "Add to scenario");
    const keep = h("input", { type: "checkbox" });
    const text = steps.map((step) => asCurl(request(host, step))).join("\n");
    apply.addEventListener("click", () => { apply.disabled = true; applied(steps, tried, keep.checked); });
    add.addEventListener("click", () => { addToScenario(host, steps); add.textContent = "Added"; });
    fill(element, h("h3", {}, "On a copy: nothing has changed yet"),
      lines(steps, (i) => ({ result: answers[i].result, problem: answers[i].errno ? answers[i] : null })),
      comparison(tried.before, tried.after),
      console_.length ? h("pre", {}, console_.join("\n")) : null,
      h("div", { class: "row" }, apply, add, copyButton("Copy as curl", text)), h("label", { class: "check" }, "Keep a copy of the host first, to undo it", keep),
      helpful.length ? h("h3", {}, "What would help") : null, helpful.map((each) => remedy(each, run)),
      h("details", {}, h("summary", {}, "The same with curl"), h("pre", {}, text)));
  }

  async function applied(steps, tried, isKept) {
    try {
      const copy = isKept ? await keepCopy(host) : null;
      const done = await send(host, steps, tried.etag);
      const { revision } = await get(`/v1/hosts/${host}`);
      fill(element, h("h3", {}, `Applied: revision ${revision}`), lines(steps, (i) => done[i]), copy ? wayBack(host, copy, { ...context, fail: report }) : null);
      changed();
    } catch (error) {
      report(error);
    }
  }

  function report(error) {
    if (error instanceof Refused && error.status === 412) {
      element.replaceChildren(h("p", { class: "sentence" }, "The host has changed since the dry run. Try again."));
    } else if (error instanceof Refused && error.status !== 401) {
      element.replaceChildren(h("p", { class: "sentence error" }, error.problem.summary || error.problem.detail));
    } else {
      context.fail(error);
    }
  }

  const clear = () => { asking.stop(); element.replaceChildren(); };
  return { element, run, clear };
}
