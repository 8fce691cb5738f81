// Something that would help: in words, and as steps that can be tried.

import { h } from "./dom.js";
import { brief } from "./steps.js";

export function remedy({ text, steps }, tryIt) {
  return h("div", { class: "remedy" }, h("p", {}, text), steps.length ? h("p", { class: "quiet" }, steps.map(brief).join(" → ")) : null,
    steps.length ? h("button", { type: "button", onclick: () => tryIt(steps) }, "Try it") : null);
}
