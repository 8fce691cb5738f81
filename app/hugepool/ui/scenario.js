// A scenario that is put together while trying: kept for the tab, downloaded as YAML, run on a copy.

import { download, h } from "./dom.js";
import { brief } from "./steps.js";

const KEY = "hugepool-scenario";
const nobody = { host: null, steps: [] };
const draft = () => JSON.parse(sessionStorage.getItem(KEY) || "null") || nobody;
const listeners = new Set();

function keep(next) {
  sessionStorage.setItem(KEY, JSON.stringify(next));
  for (const listener of listeners) listener();
}

export function addToScenario(host, steps) {
  const before = draft();
  keep({ host, steps: before.host === host ? [...before.steps, ...steps] : steps });
}

// JSON is a part of YAML: a step stands on one line.
export function asYaml({ host, steps }) {
  return [`# Run it with: hugepool run ${host}.yaml --url ${location.origin}`, `name: ${JSON.stringify(`Steps tried on ${host}`)}`,
    `host: ${JSON.stringify(host)}`, "steps:", ...steps.map((step) => `  - ${JSON.stringify(step)}`), ""].join("\n");
}

export function scenarioCard(host, trial) {
  const place = h("div");
  const element = h("section", { class: "card", id: "scenario" }, h("h2", {}, "Scenario"), place);

  function draw() {
    const kept = draft();
    const mine = kept.host === host ? kept.steps : [];
    if (mine.length === 0) {
      place.replaceChildren(h("p", { class: "quiet" }, "Steps that you try can be kept here, and run again as a file: Add to scenario."));
      return;
    }
    const button = (text, act) => h("button", { type: "button", onclick: act }, text);
    place.replaceChildren(h("ol", { class: "steps" }, mine.map((step, i) => h("li", {}, h("code", {}, brief(step)), " ",
      h("button", { type: "button", class: "small", "aria-label": `Remove step ${i + 1}`, onclick: () => keep({ host, steps: mine.filter((_, at) => at !== i) }) }, "✕")))),
    h("div", { class: "row" }, button("Download YAML", () => download(`${host}.yaml`, asYaml(kept), "application/yaml")),
      button("Run on a copy", () => trial.run(mine)), button("Clear", () => keep(nobody))));
  }

  listeners.add(draw);
  draw();
  return { element, stop: () => listeners.delete(draw) };
}
