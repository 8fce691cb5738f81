// Which page is shown, and what happens when the address changes.

import { Refused, setToken } from "./api.js";
import { h, problemCard } from "./dom.js";
import { showFleet } from "./fleet.js";
import { showHost } from "./host.js";

const main = document.getElementById("main");
const live = document.getElementById("live");
let leave = () => {};

const PAGES = [
  [/^\/ui\/$/, (root, context) => showFleet(root, context)],
  [/^\/ui\/hosts\/([a-z0-9-]+)$/, (root, context, host) => showHost(root, context, host)],
];

function askForToken() {
  const field = h("input", { type: "password", autocomplete: "off", required: true });
  const form = h("form", { class: "card" }, h("h2", {}, "This service wants a token"),
    h("div", { class: "row" }, h("label", {}, "Token", field), h("button", { class: "main" }, "Use it")));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    setToken(field.value);
    show();
  });
  main.replaceChildren(form);
  field.focus();
}

function fail(error) {
  if (error instanceof Refused && error.status === 401) askForToken();
  else main.replaceChildren(problemCard(error.problem || { detail: `The service does not answer: ${error.message}` }));
}

export async function show() {
  leave();
  leave = () => {};
  live.textContent = "";
  const found = PAGES.map(([pattern, page]) => [location.pathname.match(pattern), page]).find(([match]) => match);
  if (!found) {
    main.replaceChildren(problemCard({ detail: "There is no such page." }));
    return;
  }
  const [match, page] = found;
  const context = {
    go,
    fail,
    isLive: (on) => { live.textContent = on ? "live" : "not connected; trying again"; },
    onLeave: (stop) => { const before = leave; leave = () => { before(); stop(); }; },
  };
  try {
    await page(main, context, ...match.slice(1));
  } catch (error) {
    fail(error);
  }
}

function go(path) {
  history.pushState(null, "", path);
  show();
  main.focus();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='/ui/']");
  if (!link || event.defaultPrevented || event.metaKey || event.ctrlKey || event.button !== 0) return;
  event.preventDefault();
  go(link.getAttribute("href"));
});
window.addEventListener("popstate", show);
show();
