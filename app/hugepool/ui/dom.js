// Small helpers: elements, numbers with units, files and the clipboard.

import { Refused } from "./api.js";

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...there(children));
  return element;
}

const there = (children) => children.flat().filter((child) => child !== null && child !== undefined && child !== "");
export const fill = (element, ...children) => element.replaceChildren(...there(children));

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

export function bytes(count) {
  let value = Math.abs(count);
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return `${count < 0 ? "−" : ""}${value.toFixed(digits)} ${UNITS[unit]}`;
}

export const number = (count) => count.toLocaleString("en").replace("-", "−");
export const plural = (count, word) => `${number(count)} ${word}${count === 1 ? "" : "s"}`;
export const SIZES = { "2048kB": "2 MiB", "1048576kB": "1 GiB" };

export function ago(text) {
  if (!text) return "";
  const seconds = Math.max(0, (Date.now() - Date.parse(text)) / 1000);
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

export function color(word) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--c-${word}`).trim() || "#888";
}

export function swatch(word) {
  const box = h("i", { "aria-hidden": "true" });
  box.style.background = `var(--c-${word})`;
  return box;
}

export function problemCard(problem) {
  return h("div", { class: "card error", role: "alert" }, h("b", {}, problem.summary || problem.detail || String(problem)));
}

// A refusal in words, where it came about; all other trouble is the page's.
export function refusedIn(place, error, fail) {
  if (error instanceof Refused && error.status !== 401) place.replaceChildren(h("p", { class: "error", role: "alert" }, error.problem.summary || error.problem.detail));
  else fail(error);
}

export const facts = (pairs) => h("dl", {}, pairs.flatMap(([title, value]) => [h("dt", {}, title), h("dd", {}, value)]));

export function card(title, ...children) {
  return h("section", { class: "card" }, h("h2", {}, title), ...children);
}

export function table(titles, rows) {
  const cell = (value, tag, more = {}) => h(tag, { class: typeof value === "number" ? "n" : null, ...more },
    typeof value === "number" ? number(value) : value);
  return h("div", { class: "scroll", tabindex: "0" }, h("table", {},
    h("thead", {}, h("tr", {}, titles.map((title, i) => h("th", { scope: "col", class: rows.length && typeof rows[0][i] === "number" ? "n" : null }, title)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((value, i) => (i === 0 ? cell(value, "th", { scope: "row" }) : cell(value, "td"))))))));
}

export const csv = (rows) => rows.map((row) => row.map((cell) => `"${String(cell ?? "").replaceAll('"', '""')}"`).join(",")).join("\r\n");

export function download(name, text, type) {
  const link = h("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  URL.revokeObjectURL(link.href);
}

export function copyButton(label, text) {
  const button = h("button", { type: "button" }, label);
  button.addEventListener("click", async () => {
    const kept = typeof text === "function" ? text() : text;
    try {
      await navigator.clipboard.writeText(kept);
    } catch {
      const field = h("textarea", {}, kept); // where the clipboard is closed to the page: no TLS, or not allowed
      document.body.append(field);
      field.select();
      document.execCommand("copy");
      field.remove();
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 1500);
  });
  return button;
}
