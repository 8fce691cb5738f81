// The service, as the page asks it. A token is kept for this tab alone.

const KEY = "hugepool-token";

export class Refused extends Error {
  constructor(problem, status, etag) {
    super(problem.summary || problem.detail || `status ${status}`);
    this.problem = problem;
    this.status = status;
    this.etag = etag;
    this.hadToken = hasToken();
  }
}

function headers(more = {}) {
  const token = sessionStorage.getItem(KEY);
  return token ? { Authorization: `Bearer ${token}`, ...more } : more;
}

export function setToken(token) {
  sessionStorage.setItem(KEY, token);
}

export const hasToken = () => sessionStorage.getItem(KEY) !== null;

// `body` is sent as JSON, `raw` as it is; `more` are headers.
export async function ask(path, { method = "GET", body, raw, more = {} } = {}) {
  const kind = body === undefined ? {} : { "Content-Type": "application/json" };
  const answer = await fetch(path, { method, headers: headers({ ...kind, ...more }), body: body === undefined ? raw : JSON.stringify(body) });
  const isJson = (answer.headers.get("content-type") || "").includes("json");
  const content = isJson ? await answer.json() : await answer.text();
  const etag = answer.headers.get("etag");
  if (!answer.ok) throw new Refused(isJson ? content : { detail: content || answer.statusText }, answer.status, etag);
  return { content, etag, status: answer.status, outcome: answer.headers.get("hugepool-outcome") };
}

export const get = async (path) => (await ask(path)).content;

// Server-sent events by fetch, since EventSource cannot send a token. Reconnects until it is stopped; `onBack` is called
// when it has, since events may have been missed.
export function follow(path, onMessage, onState, onBack = () => {}) {
  const stop = new AbortController();
  let last = null;
  let lost = false;
  (async () => {
    while (!stop.signal.aborted) {
      try {
        const more = last === null ? {} : { "Last-Event-ID": last };
        const answer = await fetch(path, { headers: headers(more), signal: stop.signal });
        if (!answer.ok) throw new Error(`status ${answer.status}`);
        onState(true);
        if (lost) onBack();
        lost = false;
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        let text = "";
        for (;;) {
          const { value, done } = await reader.read();
          if (done) break;
          text += value;
          const parts = text.split("\n\n");
          text = parts.pop();
          for (const part of parts) {
            const lines = part.split("\n");
            const id = lines.find((line) => line.startsWith("id: "));
            const data = lines.find((line) => line.startsWith("data: "));
            if (id) last = id.slice(4);
            if (data) onMessage(JSON.parse(data.slice(6)));
          }
        }
      } catch (error) {
        if (stop.signal.aborted) return;
      }
      onState(false);
      lost = true;
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  })();
  return () => stop.abort();
}
