// Small lines of a pool's last revisions, asked for when their rows come into sight, a few at a time.

import { get } from "./api.js";

const [WIDTH, HEIGHT, REVISIONS, AT_ONCE, WAIT_MS] = [90, 20, 40, 3, 150];

function svg(tag, attributes) {
  const outer = document.createElement("template");
  outer.innerHTML = `<svg><${tag}/></svg>`; // the parser knows the namespace
  const element = outer.content.firstChild.firstChild;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

export function sparklines() {
  const kept = new Map(); // host -> { revision, values }
  const waiting = new Map(); // host -> what to draw into, the newest last
  let working = 0;

  function of(host) {
    const picture = svg("svg", { class: "spark", width: WIDTH, height: HEIGHT, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
    const known = kept.get(host.name);
    if (known) draw(picture, known.values);
    else picture.setAttribute("aria-label", "Trend");
    if (known?.revision !== host.revision) {
      waiting.set(host.name, [host, picture]);
      setTimeout(next, WAIT_MS);
    }
    return picture;
  }

  async function next() {
    if (working >= AT_ONCE || waiting.size === 0) return;
    const [name, [host, picture]] = [...waiting].at(-1);
    waiting.delete(name);
    if (picture.isConnected) {
      working += 1;
      try {
        const after = Math.max(0, host.revision - REVISIONS);
        const { rows } = await get(`/v1/hosts/${name}/history?after=${after}&limit=${REVISIONS}&fields=nr_hugepages`);
        const values = rows.filter((row) => row[3] === null && row[4] === "2048kB").map((row) => row[5] ?? 0);
        kept.set(name, { revision: host.revision, values });
        draw(picture, values);
      } catch {
        // a host that has gone meanwhile has no line; its row goes with the next event
      } finally {
        working -= 1;
      }
    }
    next();
  }

  return { of };
}

function draw(picture, values) {
  const most = Math.max(1, ...values);
  const x = (i) => (values.length < 2 ? WIDTH : (i / (values.length - 1)) * WIDTH);
  const y = (value) => HEIGHT - 2 - (value / most) * (HEIGHT - 4);
  const points = values.map((value, i) => `${i ? `H${x(i).toFixed(1)}` : `M0 ${y(value).toFixed(1)}`}V${y(value).toFixed(1)}`).join("");
  picture.setAttribute("aria-label", `2 MiB pages of the last revisions: from ${values[0] ?? 0} to ${values.at(-1) ?? 0}, at most ${Math.max(0, ...values)}`);
  picture.replaceChildren(svg("path", { d: values.length < 2 ? `M0 ${y(values[0] ?? 0)}H${WIDTH}` : points, fill: "none", stroke: "currentColor", "stroke-width": 1.5 }));
}
