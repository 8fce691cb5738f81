// The service, as the page asks it. A token is kept for this tab alone.

const KEY = "hugepool-token";

export class Refused extends Error {
  constructor(problem, status) {
    super(problem.summary || problem.detail || `status ${status}`);
    this.problem = problem;
    this.status = status;
  }
}

function headers(more = {}) {
  const token = sessionStorage.getItem(KEY);
  return token ? { Authorization: `Bearer ${token}`, ...more } : more;
}

export function setToken(token) {
  sessionStorage.setItem(KEY, token);
}

export async function ask(path, { method = "GET", body, ...more } = {}) {
  const answer = await fetch(path, {
    method,
    headers: headers({ ...(body === undefined ? {} : { "Content-Type": "application/json" }), ...more }),
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const isJson = (answer.headers.get("content-type") || "").includes("json");
  const content = isJson ? await answer.json() : await answer.text();
  if (!answer.ok) throw new Refused(isJson ? content : { detail: content }, answer.status);
  return { content, etag: answer.headers.get("etag") };
}

export const get = async (path) => (await ask(path)).content;

// Server-sent events by fetch, since EventSource cannot send a token. Reconnects until it is stopped.
export function follow(path, onMessage, onState) {
  const stop = new AbortController();
  let last = null;
  (async () => {
    while (!stop.signal.aborted) {
      try {
        const more = last === null ? {} : { "Last-Event-ID": last };
        const answer = await fetch(path, { headers: headers(more), signal: stop.signal });
        if (!answer.ok) throw new Error(`status ${answer.status}`);
        onState(true);
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
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  })();
  return () => stop.abort();
}
