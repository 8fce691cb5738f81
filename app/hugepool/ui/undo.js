// The way back: a copy of the host that is made before a change, which can take its place again.

import { ask, get } from "./api.js";
import { h } from "./dom.js";

export async function keepCopy(host) {
  const { revision } = await get(`/v1/hosts/${host}`);
  const name = `${host.slice(0, 50)}-r${revision}`;
  await ask("/v1/hosts", { method: "POST", body: { name, fork_of: host } });
  return name;
}

async function goBack(host, copy) {
  const { items: [{ labels }] } = await get(`/v1/hosts?view=summary&name=${host}`);
  const { etag } = await ask(`/v1/hosts/${host}`);
  await ask(`/v1/hosts/${host}`, { method: "DELETE", more: { "If-Match": etag } });
  await ask("/v1/hosts", { method: "POST", body: { name: host, fork_of: copy, labels } });
  await ask(`/v1/hosts/${copy}`, { method: "DELETE" });
}

export function wayBack(host, copy, { pause, again, fail }) {
  const place = h("div", { class: "remedy" });
  const act = (words, doIt) => h("button", { type: "button", onclick: async (event) => {
    event.target.disabled = true;
    try {
      await doIt();
    } catch (error) {
      fail(error);
    }
  } }, words);
  const back = act("Undo", async () => { pause(); await goBack(host, copy); again(); });
  const forget = act("Forget the copy", async () => { await ask(`/v1/hosts/${copy}`, { method: "DELETE" }); place.remove(); });
  place.append(h("p", {}, "The host as it was is kept as ", h("a", { href: `/ui/hosts/${copy}` }, copy), `. Undo puts it in the place of ${host}, whose history then begins anew.`),
    h("div", { class: "row" }, back, forget));
  return place;
}
