// Why a pool is as it is, and what would help; each remedy as a trial first, then for real.

import { ask, get } from "./api.js";
import { h, number } from "./dom.js";

export function whyCard(host, context) {
  const place = h("div");
  const element = h("section", { class: "card", "aria-live": "polite" }, h("h2", {}, "Why?"), place);

  async function load() {
    const found = await get(`/v1/hosts/${host}/hugepages/2048kB/explain`);
    place.replaceChildren(h("p", { class: "sentence" }, found.summary), ...found.remedies.map(remedy));
  }

  function remedy(each) {
    const answer = h("div");
    const trial = h("button", { type: "button" }, "Try it");
    trial.addEventListener("click", async () => {
      try {
        const { content } = await ask("/v1/what-if", { method: "POST", body: { host, steps: each.steps } });
        const last = content.steps[content.steps.length - 1];
        const pool = last.counters["2048kB"];
        answer.replaceChildren(h("p", {}, `On a copy: ${number(pool.nr_hugepages)} pages, ${number(pool.surplus_hugepages)} surplus` +
          `${content.refused ? `; ${content.refused} steps were refused` : ""}.`));
      } catch (error) {
        context.fail(error);
      }
    });
    return h("div", {}, h("p", { class: "sentence" }, each.text), each.steps.length ? trial : null, answer);
  }

  return { element, load };
}
