// More hosts: archives of real machines by drag and drop, and machines that are booted.

import { ask, get } from "./api.js";
import { bytes, card, copyButton, facts, h, number, plural, refusedIn, SIZES } from "./dom.js";
import { field, values } from "./try.js";
import { asCurl } from "./steps.js";

const nameOf = (file) => file.replace(/\.(tar|tgz|txz|gz|xz|bz2|zst)\b/g, "").toLowerCase().replace(/[^a-z0-9-]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 63) || "machine";

export async function showImport(root, context) {
  document.title = "hugepool: add hosts";
  const { kernels } = await get("/version");
  root.replaceChildren(h("h1", {}, "Add hosts"), h("div", { class: "grid even" }, importCard(kernels, context), bootCard(kernels, context)));
}

function describe(host) {
  const pools = host.hugepages.map((pool) => `${number(pool.nr_hugepages)} × ${SIZES[pool.size] || pool.size}`).join(", ");
  return facts([["Kernel", `${host.kernel}`], ["Nodes", number(host.nodes.length)], ["Memory", `${bytes(host.memory.total_bytes)}, ${bytes(host.memory.free_bytes)} free`], ["Huge pages", pools],
    ["Memory blocks", `${number(host.memory_blocks.online)} online, ${number(host.memory_blocks.offline)} offline`], ["Command line", host.cmdline || "(none)"]]);
}

function assumed(host) {
  return host.assumptions.length ? h("details", { open: true }, h("summary", {}, `${plural(host.assumptions.length, "assumption")}: what no file said`),
    h("ul", {}, host.assumptions.map((text) => h("li", {}, text)))) : h("p", { class: "quiet" }, "Nothing had to be assumed.");
}

function importCard(kernels, context) {
  const found = h("div", { "aria-live": "polite" });
  const kernel = h("select", {}, h("option", { value: "" }, "as the files say"), kernels.map((each) => h("option", { value: each }, each)));
  const picker = h("input", { type: "file", multiple: true, "aria-label": "Archives" });
  const drop = h("div", { class: "drop" }, h("p", {}, "Drop archives of /proc and /sys here: what collect.sh writes, or a sosreport."), picker);
  const command = `curl -s ${location.origin}/collect.sh | sh -s -- -o machine.tar.gz`;

  const path = (name, dry) => `/v1/hosts/import?${new URLSearchParams({ name, ...(kernel.value ? { kernel: kernel.value } : {}), ...(dry ? { dry_run: "true" } : {}) })}`;

  function look(file) {
    const name = h("input", { value: nameOf(file.name), required: true, pattern: "[a-z0-9][a-z0-9\\-]{0,62}" });
    const answer = h("div");
    const form = h("form", { class: "row" }, h("label", {}, "Name", name), h("button", { type: "button", onclick: () => send(true) }, "Look first"), h("button", { class: "main" }, "Import"));
    form.addEventListener("submit", (event) => { event.preventDefault(); send(false); });
    const send = async (dry) => {
      answer.replaceChildren(h("p", { class: "quiet" }, "Reading…"));
      try {
        const { content } = await ask(path(name.value, dry), { method: "POST", raw: file, more: { "Content-Type": "application/gzip" } });
        answer.replaceChildren(h("p", { class: "mark good" }, dry ? "✓ It can be read; nothing is stored yet." : h("a", { href: `/ui/hosts/${content.name}` }, `✓ Open ${content.name}`)), describe(content), assumed(content));
      } catch (error) {
        refusedIn(answer, error, context.fail);
      }
    };
    found.append(h("section", {}, h("h3", {}, `${file.name} (${bytes(file.size)})`), form, answer));
    send(true);
  }

  const take = (files) => { found.replaceChildren(); [...files].forEach(look); };
  picker.addEventListener("change", () => take(picker.files));
  for (const kind of ["dragenter", "dragover"]) drop.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => { event.preventDefault(); take(event.dataTransfer.files); });
  return card("Import a real machine", drop, h("div", { class: "row" }, h("label", {}, "Rules of kernel", kernel), copyButton("Copy the command that collects", command)), h("pre", {}, command), found);
}

function bootCard(kernels, context) {
  const form = h("form", {}, h("div", { class: "row" }, field(["name", "Name", { required: true, value: "lab", pattern: "[a-z0-9][a-z0-9\\-]{0,62}" }]),
    field(["kernel", "Kernel", { options: [...kernels].reverse().map((each) => [each, each]) }])),
  h("div", { class: "row" }, field(["nodes", "Nodes", { type: "number", min: 1, max: 64, value: 2, required: true }]), field(["memory", "Memory of each", { value: "64G", required: true }]),
    field(["cpus", "CPUs of each", { type: "number", min: 0, value: 16 }])),
  h("div", { class: "row" }, h("label", {}, "Kernel command line", h("input", { name: "cmdline", value: "hugetlb_free_vmemmap=on", autocomplete: "off", class: "long" }))),
  h("div", { class: "row" }, field(["labels", "Labels", { placeholder: "rack=7 role=db" }])));
  const answer = h("div", { "aria-live": "polite" });
  const body = () => {
    const { name, kernel, nodes, memory, cpus = 1, cmdline = "", labels = "" } = values(form);
    return { name, spec: { kernel, cmdline, nodes: Array.from({ length: nodes }, () => ({ memory, cpus })) }, labels: Object.fromEntries(labels.split(/\s+/).filter(Boolean).map((pair) => pair.split("="))) };
  };
  form.append(h("div", { class: "row" }, h("button", { class: "main" }, "Boot"), copyButton("Copy as curl", () => asCurl({ method: "POST", path: "/v1/hosts", body: body() }))), answer);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const { content } = await ask("/v1/hosts", { method: "POST", body: body() });
      answer.replaceChildren(h("p", { class: "mark good" }, h("a", { href: `/ui/hosts/${content.name}` }, `✓ Open ${content.name}`)), describe(content));
    } catch (error) {
      refusedIn(answer, error, context.fail);
    }
  });
  return card("Boot a machine", form);
}
