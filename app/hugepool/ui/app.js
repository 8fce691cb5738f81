// Which page is shown, and what happens when the address changes.

import { Refused, setToken } from "./api.js";
import { h, problemCard } from "./dom.js";

const main = document.getElementById("main");
const live = document.getElementById("live");
const RETRY_MS = 2000;
let leave = () => {};
let turn = 0;

const PAGES = [
  [/^\/ui\/$/, async () => (await import("./fleet.js")).showFleet],
  [/^\/ui\/hosts\/([a-z0-9-]+)$/, async () => (await import("./host.js")).showHost],
  [/^\/ui\/compare$/, async () => (await import("./compare.js")).showCompare],
  [/^\/ui\/plans$/, async () => (await import("./plans.js")).showPlans],
  [/^\/ui\/import$/, async () => (await import("./import.js")).showImport],
];

function askForToken(wasWrong) {
  const field = h("input", { type: "password", autocomplete: "off", required: true });
  const form = h("form", { class: "card narrow" }, h("h2", {}, "This service wants a token"), wasWrong ? h("p", { class: "error", role: "alert" }, "It does not know the token that was given.") : null,
    h("div", { class: "row" }, h("label", {}, "Token", field), h("button", { class: "main" }, "Use it")));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    setToken(field.value);
    show();
  });
  leave();
  leave = () => {};
  main.replaceChildren(form);
  field.focus();
}

// A page that is on the screen stays there while the service is away; the line at the top says so.
function fail(error, isFirst = false) {
  if (error instanceof Refused && error.status === 401) askForToken(error.hadToken);
  else if (error instanceof Refused) main.replaceChildren(problemCard(error.problem));
  else if (isFirst) away();
  else { console.debug(error); isLive(false); }
}

function away() {
  main.replaceChildren(problemCard({ detail: "The service does not answer. The page tries again every two seconds." }));
  const now = turn;
  setTimeout(() => { if (now === turn) show(); }, RETRY_MS);
}

function isLive(on) {
  live.textContent = on ? "● live" : "○ not connected; trying again";
}

export async function show() {
  leave();
  leave = () => {};
  live.textContent = "";
  turn += 1;
  const now = turn;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === location.pathname) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const [match, load] = PAGES.map(([pattern, page]) => [location.pathname.match(pattern), page]).find(([found]) => found) || [null];
  if (!match) {
    main.replaceChildren(problemCard({ detail: "There is no such page." }));
    return;
  }
  const context = {
    again: show,
    pause: () => { leave(); leave = () => {}; },
    fail: (error) => { if (now === turn) fail(error); },
    isLive,
    onLeave: (stop) => { const before = leave; leave = () => { before(); stop(); }; },
  };
  try {
    await (await load())(main, context, ...match.slice(1));
  } catch (error) {
    if (now === turn) fail(error, !(error instanceof Refused) && error instanceof TypeError && /fetch|import/i.test(error.message));
    if (!(error instanceof Refused) && !/fetch|import/i.test(error.message)) throw error;
  }
}

function go(path) {
  history.pushState(null, "", path);
  window.scrollTo(0, 0);
  show();
  main.focus();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='/ui/']");
  if (!link || event.defaultPrevented || event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
  event.preventDefault();
  go(link.getAttribute("href"));
});
window.addEventListener("popstate", show);
show();
