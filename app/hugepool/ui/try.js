// Forms that change a host: always as a dry run first, with numbers and a sentence, then for real.

import { ask, Refused } from "./api.js";
import { h, number } from "./dom.js";

const origin = location.origin;

export function tryCard(host, context, reload) {
  const size = h("select", { name: "size" }, h("option", { value: "2048kB" }, "2 MiB"), h("option", { value: "1048576kB" }, "1 GiB"));
  const count = h("input", { name: "count", type: "number", min: "0", step: "1", value: "0", required: true });
  const node = h("input", { name: "node", type: "number", min: "0", placeholder: "all" });
  const said = h("div", { "aria-live": "polite" });
  const apply = h("button", { type: "button", class: "main", disabled: true }, "Apply");
  const form = h("form", {}, h("div", { class: "row" }, h("label", {}, "Size", size), h("label", {}, "Pages", count),
    h("label", {}, "Node", node), h("button", {}, "Dry run"), apply));
  const disarm = h("button", { type: "button" }, "Disarm all faults");
  const drain = h("button", { type: "button" }, "Free what waits");
  let tried = null;

  const path = () => `/v1/hosts/${host}/hugepages/${size.value}/nr_hugepages`;
  const body = () => ({ count: Number(count.value), ...(node.value === "" ? {} : { node: Number(node.value) }) });

  function asCurl() {
    return `curl -X PUT ${origin}${path()} -H 'Content-Type: application/json' -d '${JSON.stringify(body())}'`;
  }

  function show(result, problem) {
    const after = result ? result.after : null;
    const text = problem ? problem.summary || problem.detail : result.shortfall ? result.shortfall.summary : "It reaches what was asked.";
    said.replaceChildren(...[
      after ? h("p", {}, `${number(result.before.nr_hugepages)} → ${number(after.nr_hugepages)} pages; surplus ${number(after.surplus_hugepages)}.`) : null,
      h("p", { class: "sentence" }, text), h("pre", {}, asCurl())].filter(Boolean));
  }

  async function send(dry) {
    const query = dry ? "?dry_run=true" : "";
    const more = !dry && tried ? { "If-Match": tried.etag } : {};
    try {
      const { content, etag } = await ask(path() + query, { method: "PUT", body: body(), ...more });
      show(content, null);
      return { etag };
    } catch (error) {
      if (!(error instanceof Refused) || error.status === 401) { context.fail(error); return null; }
      const stale = error.status === 412;
      if (stale) said.replaceChildren(h("p", { class: "sentence" }, "The host has changed since the dry run. Try again."));
      else show(error.problem.result, error.problem);
      return stale ? null : { etag: null };
    }
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    tried = await send(true);
    if (tried && tried.etag === null) tried = { etag: "*" };
    apply.disabled = tried === null;
  });
  for (const field of [size, count, node]) field.addEventListener("input", () => { apply.disabled = true; tried = null; });
  apply.addEventListener("click", async () => {
    apply.disabled = true;
    await send(false);
    tried = null;
    reload();
  });
  disarm.addEventListener("click", async () => {
    const faults = (await ask(`/v1/hosts/${host}/faults`)).content.items.filter((fault) => fault.armed);
    for (const fault of faults) await ask(`/v1/hosts/${host}/faults/${fault.point}`, { method: "DELETE" });
    said.replaceChildren(h("p", {}, `${faults.length} faults disarmed.`));
    reload();
  });
  drain.addEventListener("click", async () => {
    const { content } = await ask(`/v1/hosts/${host}/deferred-frees/drain`, { method: "POST" });
    said.replaceChildren(h("p", {}, `${content.freed} huge pages were freed, ${content.returned_as_surplus} came back as surplus.`));
    reload();
  });
  return h("section", { class: "card" }, h("h2", {}, "Change the pool"), form, said, h("div", { class: "row" }, disarm, drain));
}
