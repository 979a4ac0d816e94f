// The page: it asks the machine how it is, a few times a second, and draws the
// answers. docs/control.md describes both.
"use strict";

const $ = (id) => document.getElementById(id);
const every = 400; // ms between questions
let paused = false;
let ended = false;
let unanswered = 0; // requests in a row

// ask sends a request to the machine and returns its answer.
async function ask(request) {
  let response;
  try {
    response = await fetch("call", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(request),
    });
  } catch (error) {
    ended = ++unanswered >= 3; // the server ends with the machine
    throw error;
  }
  unanswered = 0;
  if (!response.ok && response.status !== 410) throw new Error(await response.text());
  const answer = await response.json();
  if (response.status === 410) ended = true;
  if (answer.error) throw new Error(answer.error);
  return answer;
}

const inspect = async (what, more) => (await ask({ command: "inspect", what, ...more })).result;
const vcpu = () => Number($("vcpu").value || 0);

// What went wrong the last time that somebody did something, and in the last round.
const problems = { act: null, round: null };

function complain(kind, error) {
  problems[kind] = error;
  const problem = problems.act || problems.round;
  $("error").hidden = !problem;
  if (problem && $("error").textContent !== problem.message) $("error").textContent = problem.message;
}

// element makes an element of text and other elements; never of HTML.
function element(name, attributes, ...content) {
  const e = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) if (value !== undefined) e.setAttribute(key, value);
  e.append(...content.map((c) => (c instanceof Node ? c : String(c ?? ""))));
  return e;
}

// fill puts rows into a table, and marks the cells whose text has changed.
function fill(table, rows) {
  const body = table.tBodies[0];
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((cells, i) => {
    const row = body.rows[i] || body.insertRow();
    row.className = cells.class || "";
    while (row.cells.length > cells.length) row.deleteCell(-1);
    cells.forEach((text, j) => {
      const known = j < row.cells.length;
      const cell = known ? row.cells[j] : row.insertCell();
      const changed = known && cell.textContent !== String(text ?? "");
      if (changed || !known) cell.textContent = text ?? "";
      cell.classList.toggle("changed", changed);
    });
  });
}

// options fills a list of choices, and keeps the one that is chosen.
function options(select, values) {
  const now = [...select.options].map((o) => o.value);
  if (now.length === values.length && values.every((v, i) => v === now[i])) return;
  const chosen = select.value;
  select.replaceChildren(...values.map((v) => element("option", {}, v)));
  if (values.includes(chosen)) select.value = chosen;
}

function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  for (; bytes >= 1024 && i < units.length - 1; i++) bytes /= 1024;
  return `${bytes < 10 && i > 0 ? bytes.toFixed(1) : Math.round(bytes)} ${units[i]}`;
}

const hex = (n) => "0x" + BigInt(n).toString(16);

async function showStatus() {
  const { status } = await ask({ command: "status" });
  paused = status.state === "paused";
  $("state").textContent = status.state;
  $("state").className = status.state;
  $("pause").firstChild.data = paused ? "Continue " : "Pause ";
  $("step").disabled = !paused;
  options($("vcpu"), Array.from({ length: status.cpus }, (_, i) => String(i)));
  const items = { up: status.seconds.toFixed(1) + " s", RAM: size(status.memory), "in use": size(status.resident), exits: status.exits };
  $("status").replaceChildren(...Object.entries(items).flatMap(([k, v]) => [element("dt", {}, k), element("dd", {}, v)]));
}

// To look at a vCPU stops it for a moment: while the machine runs, it is done when
// somebody looks at what it says, and not more often than anything else.
let processor = ""; // what is shown
let looks = 0;

async function showProcessor() {
  const look = ++looks;
  const held = paused;
  const p = await inspect("processor", { vcpu: vcpu() });
  if (look !== looks) return; // somebody has paused or stepped it since: that is shown
  const state = held && p.state === "running" ? "paused" : p.state;
  const now = state + JSON.stringify(p);
  if (held && now === processor) return; // what the last step has changed stays marked
  processor = now;
  $("mode").textContent = `${state}, ${p.bits}-bit code, privilege level ${p.privilege}, ${p.paging}`;
  fill($("code"), p.code.slice(0, 12).map((i, n) => {
    const row = [i.address, i.symbol || "", i.bytes, i.text];
    row.class = n === 0 ? "next" : "";
    return row;
  }));
  fill($("registers"), p.registers.map((r) => [r.name, r.value, r.flags || ""]));
  fill($("segments"), p.segments.map((s) => [s.name, s.selector, s.base, s.limit, s.meaning]));
}

let before = null;

async function showCounters() {
  const now = await inspect("counters");
  showQueues(now.queues || []);
  const last = before;
  before = now;
  if (!last || now.t <= last.t) return;
  const seconds = (now.t - last.t) / 1e9;
  const rows = [];
  for (const [kind, prefix] of [["reasons", ""], ["access", "to "]]) {
    for (const [name, count] of Object.entries(now[kind] || {})) {
      const old = (last[kind] || {})[name] || { exits: 0, vmm_ns: 0 };
      const n = count.exits - old.exits;
      rows.push({ name: prefix + (name || "nothing"), rate: Math.max(0, n) / seconds, each: n > 0 ? (count.vmm_ns - old.vmm_ns) / n : 0 });
    }
  }
  rows.sort((a, b) => b.rate - a.rate || a.name.localeCompare(b.name));
  const most = Math.max(1, ...rows.map((r) => r.rate));
  const body = $("exits").tBodies[0];
  body.replaceChildren(...rows.slice(0, 14).map((r) => element("tr", {},
    element("td", {}, r.name), element("td", {}, Math.round(r.rate)),
    element("td", {}, r.each ? (r.each / 1000).toFixed(1) + " µs" : ""),
    element("td", {}, element("meter", { max: most, value: r.rate, "aria-label": r.name })))));
}

function showQueues(devices) {
  const names = devices.flatMap((d) => d.queues.filter((q) => q.active).map((q) => `${d.name} ${q.queue}`));
  options($("queue"), names);
  $("drawn").hidden = names.length === 0;
  if (names.length === 0) $("indices").textContent = "No driver has set up a queue.";
}

const shownSlots = 64;
const maxArcs = 128;

// arc is the part of a ring around (0, 0) from one angle to another, in turns
// clockwise from the top.
function arc(from, to, inner, outer) {
  const at = (turn, radius) => [radius * Math.sin(2 * Math.PI * turn), -radius * Math.cos(2 * Math.PI * turn)].map((x) => x.toFixed(2)).join(" ");
  return `M${at(from, inner)} L${at(from, outer)} A${outer} ${outer} 0 0 1 ${at(to, outer)} L${at(to, inner)} A${inner} ${inner} 0 0 0 ${at(from, inner)} Z`;
}

const svg = (name, attributes) => {
  const e = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
  return e;
};

// drawRing draws the slots of both rings as one, for an index stands for the same
// slot in both: the driver's hand goes ahead outside, the device's follows inside,
// and the slots between them are with the device.
function drawRing(r) {
  const n = Math.min(r.size, maxArcs); // an arc is a slot, or a few of them
  const each = r.size / n;
  const used = r.used_index % r.size;
  const gap = n > 64 ? 0 : 0.12;
  const arcs = Array.from({ length: n }, (_, i) => {
    const ahead = (i * each - used + r.size) % r.size; // from the device's hand
    const busy = r.depth > 0 && (ahead < r.depth || ahead + each > r.size);
    return svg("path", { class: busy ? "busy" : "slot", d: arc((i + gap) / n, (i + 1 - gap) / n, 62, 84) });
  });
  const hand = (index, kind, points) => svg("polygon", { class: kind, points, transform: `rotate(${(360 * ((index % r.size) + 0.5)) / r.size})` });
  $("ring").replaceChildren(...arcs, hand(r.available_index, "driver", "0,-86 -7,-99 7,-99"), hand(r.used_index, "device", "0,-60 -7,-47 7,-47"));
  $("ring").setAttribute("aria-label", $("indices").textContent);
}

async function showRings() {
  const name = $("queue").value;
  if (!name) return;
  const cut = name.lastIndexOf(" ");
  const r = await inspect("rings", { device: name.slice(0, cut), queue: Number(name.slice(cut + 1)) });
  $("indices").textContent = `${r.size} descriptors; made available: ${r.available_index}, used: ${r.used_index}, with the device: ${r.depth}`;
  drawRing(r);
  const n = Math.min(r.size, shownSlots);
  // The slots that move next: where the driver and the device write.
  const slot = (index) => index % r.size;
  const inFlight = new Set();
  for (let i = r.used_index; i !== r.available_index && inFlight.size < r.size; i = (i + 1) & 0xffff) {
    let d = r.available_ring[slot(i)];
    for (let k = 0; d !== undefined && k < r.size; k++) {
      inFlight.add(d);
      d = (r.descriptor_table[d] || {}).next;
    }
  }
  const mark = (row, name) => { row.class = name; return row; };
  fill($("descriptors"), r.descriptor_table.slice(0, n).map((d, i) => mark(
    [i, hex(d.address), d.length, d.indirect ? "indirect" : d.write ? "device writes" : "device reads", d.next ?? ""], inFlight.has(i) ? "flight" : "")));
  fill($("available"), r.available_ring.slice(0, n).map((h, i) => mark([i, h], i === slot(r.available_index) ? "next" : "")));
  fill($("used"), r.used_ring.slice(0, n).map((u, i) => mark([i, u.id, u.length], i === slot(r.used_index) ? "next" : "")));
}

// To look at all of RAM takes the host some 20 ns a page: of much RAM it is done
// seldom.
let memoryDue = 0;

async function showMemory() {
  const began = performance.now();
  const regions = await inspect("touched");
  memoryDue = performance.now() + Math.max(5 * every, 20 * (performance.now() - began));
  $("cells").replaceChildren(...regions.map((r) => element("figure", {},
    element("figcaption", {}, `${r.start}: ${size(r.size)}, ${size(r.touched)} touched; a square is ${size(r.cell)}`),
    element("div", { class: "strip", role: "img", "aria-label": `${size(r.touched)} of ${size(r.size)} touched` },
      ...r.cells.map((c) => element("i", { class: "t" + Math.ceil((4 * c) / r.cell) }))))));
  const map = await inspect("memory-map");
  const known = new Map(regions.flatMap((r) => [[r.start, r], ...(r.contents || []).map((c) => [c.start + c.name, c])]));
  const rows = [];
  for (const area of map.memory) {
    const t = area.kind === "RAM" ? known.get(area.start) : undefined;
    rows.push([area.start, size(area.size), area.name + (area.kind === "KVM" ? " (KVM)" : ""), t ? size(t.touched) : ""]);
    for (const c of area.contents || []) {
      const row = [c.start, size(c.size), "· " + c.name, known.has(c.start + c.name) ? size(known.get(c.start + c.name).touched) : ""];
      row.class = "inner";
      rows.push(row);
    }
  }
  fill($("map"), rows);
}

async function showDevices() {
  const devices = await inspect("devices", { vcpu: vcpu() });
  const box = $("devices");
  devices.forEach((d, i) => {
    let e = box.children[i];
    if (!e || e.dataset.name !== d.name) {
      const summary = element("summary", {}, d.name, element("span", { class: "hint" }, ` ${d.where} ${d.kind === "KVM" ? "KVM" : ""}`));
      const fresh = element("details", { "data-name": d.name }, summary, element("table", {}, element("tbody")));
      if (e) e.replaceWith(fresh); else box.append(fresh);
      e = fresh;
    }
    fill(e.querySelector("table"), (d.registers || []).map((r) => [r.offset, r.name, r.value, r.meaning || ""]));
  });
  while (box.children.length > devices.length) box.lastChild.remove();
}

let seen = 0; // bytes of the console
const terminal = new Terminal($("output"));

async function showConsole() {
  const from = seen;
  const { at, text, next } = await inspect("console", { from });
  if (next === from || seen !== from) return; // nothing new, or another question was faster
  terminal.write((at > from && from > 0 ? "\n…\n" : "") + text);
  seen = next;
}

// type sends text to the guest, in the order in which it was typed. A request has
// room for so much.
let typing = Promise.resolve();

function type(text) {
  const characters = [...text];
  const send = async () => {
    for (let i = 0; i < characters.length; i += 500) {
      await ask({ command: "type", text: characters.slice(i, i + 500).join("") });
    }
  };
  const sent = typing.then(send);
  typing = sent.catch(() => {});
  return sent;
}

async function showTimeline() {
  let t;
  try {
    t = await inspect("timeline");
  } catch (error) {
    fill($("timeline"), [[error.message]]);
    return;
  }
  const last = Math.max(1, ...t.phases.map((p) => p.ns));
  $("timeline").tBodies[0].replaceChildren(...t.phases.map((p) => element("tr", {},
    element("td", {}, p.name), element("td", {}, (p.ns / 1e6).toFixed(2) + " ms"),
    element("td", {}, element("meter", { max: last, value: p.ns, "aria-label": p.name })))));
}

async function togglePause() {
  await ask({ command: paused ? "resume" : "pause" });
  await showStatus();
  if (paused) await showProcessor();
}

async function step() {
  if (!paused) return;
  await ask({ command: "step", vcpu: vcpu() });
  await showProcessor();
}

// act does what somebody wants, and says why not.
const act = (what) => what().then(() => complain("act", null), (error) => complain("act", error));

$("pause").addEventListener("click", () => act(togglePause));
$("step").addEventListener("click", () => act(step));
$("vcpu").addEventListener("change", () => act(showProcessor));
$("queue").addEventListener("change", () => act(showRings));
$("type").addEventListener("submit", (event) => {
  event.preventDefault();
  act(async () => {
    await type($("text").value + "\n");
    $("text").value = "";
  });
});
$("output").addEventListener("keydown", (event) => {
  const text = typed(event);
  // Ctrl-C copies what is selected, as everywhere.
  if (text === undefined || text === "\x03" && !getSelection().isCollapsed) return;
  event.preventDefault();
  act(() => type(text).then(showConsole));
});
$("output").addEventListener("paste", (event) => {
  event.preventDefault();
  act(() => type(event.clipboardData.getData("text/plain").replaceAll(/\r?\n/g, "\r")));
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.id === "output" || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  if (event.key === "p") act(togglePause);
  else if (event.key === "s") act(step);
});

// rounds is the loop: what moves fast each time, the rest now and then.
(async function rounds() {
  for (let n = 0; !ended; n++) {
    if (!document.hidden) {
      const due = [showStatus, showConsole, showCounters, showRings];
      if (n % 4 === 0 || paused) due.push(showProcessor);
      if (performance.now() >= memoryDue) due.push(showMemory);
      if (n % 5 === 1) due.push(showDevices);
      if (n % 5 === 2) due.push(showTimeline);
      let problem = null; // one part's problem keeps no other from being shown
      for (const show of due) {
        if (ended) break;
        try {
          await show();
        } catch (error) {
          problem ??= error;
        }
      }
      complain("round", problem);
    }
    await new Promise((done) => setTimeout(done, every));
  }
  complain("act", null);
  complain("round", null);
  $("state").textContent = "ended";
  $("state").className = "ended";
  for (const id of ["pause", "step", "text", "send"]) $(id).disabled = true;
})();
