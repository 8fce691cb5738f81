// Questions that may take long: what is not answered soon is a job, with its progress and a way to cancel it.

import { ask, get } from "./api.js";
import { h, number, refusedIn } from "./dom.js";

const WAIT_SECONDS = 1; // for what is answered soon
const LOOK_MS = 250;

// The answer to a question; null when it was cancelled, or when another was asked meanwhile.
export function questions(place, fail) {
  let turn = 0;
  let cancel = () => {};

  async function put(path, body) {
    turn += 1;
    const now = turn;
    cancel();
    place.replaceChildren(h("p", { class: "quiet" }, "Asking…"));
    try {
      const { content, status } = await ask(path, { method: "POST", body, more: { Prefer: `respond-async, wait=${WAIT_SECONDS}` } });
      const answer = status === 202 ? await finished(content, now) : content;
      if (now === turn && answer !== null) place.replaceChildren();
      return now === turn ? answer : null;
    } catch (error) {
      if (now !== turn) return null;
      refusedIn(place, error, fail);
      return null;
    }
  }

  async function finished(job, now) {
    const bar = h("progress", { "aria-label": "Progress", max: "1", value: "0" });
    const words = h("span", { class: "quiet" });
    const stop = h("button", { type: "button" }, "Cancel");
    let stopped = false;
    cancel = () => { stopped = true; cancel = () => {}; ask(`/v1/jobs/${job.id}`, { method: "DELETE" }).catch(() => {}); };
    stop.addEventListener("click", () => { cancel(); place.replaceChildren(h("p", { class: "quiet" }, "Cancelled.")); });
    let row = job;
    while (!stopped && now === turn) {
      if (row.ended_at !== null) return result(job.id);
      bar.value = row.total ? row.done / row.total : 0;
      words.textContent = `${row.state}, ${number(row.done)} of ${number(row.total)}`;
      if (!bar.isConnected) place.replaceChildren(h("div", { class: "row actions", role: "status" }, bar, words, stop));
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      if (!stopped && now === turn) row = await get(`/v1/jobs/${job.id}`);
    }
    return null;
  }

  async function result(id) {
    cancel = () => {};
    try {
      return await get(`/v1/jobs/${id}/result`);
    } finally {
      ask(`/v1/jobs/${id}`, { method: "DELETE" }).catch(() => {}); // its result is here now
    }
  }

  return { put, stop: () => { turn += 1; cancel(); } };
}
