// Why a pool is as it is, and what would help; each remedy is tried on a copy first.

import { get } from "./api.js";
import { card, copyButton, h, SIZES } from "./dom.js";
import { remedy } from "./remedy.js";
import { asCurl } from "./steps.js";

export function whyCard(host, tryIt) {
  const place = h("div");
  const size = h("select", { "aria-label": "Page size" }, Object.entries(SIZES).map(([value, title]) => h("option", { value }, `${title} pages`)));
  const path = () => `/v1/hosts/${host}/hugepages/${size.value}/explain`;
  const element = card("Why?", h("div", { class: "row" }, size, copyButton("Copy as curl", () => asCurl({ method: "GET", path: path() }))), place);
  element.classList.add("why");

  async function load() {
    const found = await get(path());
    place.replaceChildren(h("p", { class: "sentence" }, found.summary),
      ...(found.remedies.length ? [h("h3", {}, "What would help")] : []), ...found.remedies.map((each) => remedy(each, tryIt)));
  }

  size.addEventListener("change", load);
  return { element, load };
}
