
"use strict";
/* One subject is in the page at a time; the others wait as text until they are looked at. */

const head = JSON.parse(document.getElementById("head").textContent);
const COLUMNS = ["subject", "task", "stack", "verdict", "disc", "point", "x_mm", "y_mm", "z_mm", "reader", "reason"];
const WORDS = { accepted: "accept", review: "mark for review", failed: "reject" };
const DONE = { accepted: "accepted", review: "for review", failed: "rejected" };
const SYMBOL = { accepted: "✓", review: "?", failed: "✕" };
const STRICT = ["accepted", "review", "failed"];
const KEYS = { a: "accepted", m: "review", r: "failed" };
const MEASURES = {
  mi: "mutual information above chance, nats",
  overlap: "share of the samples inside the other image",
  rival: "rise of the best rival pose, share of the winner's",
  repeat_mm: "two halves of the samples differ by, mm",
  peak: "share of disturbed poses that fit worse",
  inverse_mm: "there and back again misses by, mm",
  restart_mm: "other starts end apart by, mm",
  bone_mm: "bone to bone, mm",
  mirror: "information of the mirror image, share of the winner's",
  mirror_whole: "the same, all stacks together",
  sharpness: "how sharply the fit falls off around the pose",
  sharpness_whole: "the same, all stacks together",
};
const NUDGE = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const NUDGE_MM = 0.5, HALF_PLANE_MM = 26, HALF_CUT_MM = 34, GRIP_MM = 6, CROSS_MM = 3;
const SVG = "http://www.w3.org/2000/svg";
const STORE = `mrsynth-review/${head.study}`;

const $ = (id) => document.getElementById(id);
const clone = (value) => JSON.parse(JSON.stringify(value));

function el(tag, attributes = {}, ...children) {
  const node = tag.startsWith("svg:") ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "text") node.textContent = value;
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/* --- what the reader has said, kept in the browser, apart for each reader ------------------- */

let store = { reader: "", readers: {} };
let loaded = null;      // a review.tsv that the reader opened: {lines: [text or row]}
let cards = {};         // contents of subjects that were looked at
let current = null, chosen = 0, shownCard = null, redraw = [];

function restore() {
  try { store = Object.assign(store, JSON.parse(localStorage.getItem(STORE) || "{}")); } catch (error) { /* a private window keeps nothing */ }
}
function keep() {
  try { localStorage.setItem(STORE, JSON.stringify(store)); } catch (error) { tell("This browser keeps no progress: download before you close the page."); }
  summary();
}
const readerKey = (name) => name.trim().toLowerCase();
function mine() {
  const key = readerKey(store.reader);
  return (store.readers[key] ||= { judged: {}, moved: {} });
}
function said(subject, stack) {
  const entry = (mine().judged[subject] || {})[stack];
  if (entry) return entry.verdict ? entry : null;
  if (Number(stack) && saidAll(subject)) return null;
  return inFile(subject, stack).filter((row) => readerKey(row.reader) === readerKey(store.reader)).pop() || null;
}
/* A word about all stacks replaces the reader's earlier ones about single stacks. */
function saidAll(subject) {
  const all = (mine().judged[subject] || {})[0];
  return Boolean(all && all.verdict);
}
function inFile(subject, stack) {
  if (!loaded) return [];
  return loaded.lines.filter((row) => typeof row !== "string" && row.task === head.task && row.subject === subject
    && row.verdict && Number(row.stack || 0) === Number(stack));
}
function entryOf(subject) { return head.subjects.find((entry) => entry.subject === subject); }
function isDone(entry) {
  if (entry.refused) return false;
  if (said(entry.subject, 0)) return true;
  const stacks = Array.from({ length: entry.stacks }, (_, n) => n + 1);
  return stacks.length > 0 && stacks.every((stack) => said(entry.subject, stack));
}
function worstSaid(entry) {
  const all = Array.from({ length: entry.stacks + 1 }, (_, n) => said(entry.subject, n)).filter(Boolean);
  return all.map((word) => word.verdict).sort((a, b) => STRICT.indexOf(b) - STRICT.indexOf(a))[0] || null;
}

/* --- judging ---------------------------------------------------------------------------------- */

function needReader() {
  if (store.reader.trim()) return false;
  tell("Give your initials first: every row says who judged.");
  $("reader").focus();
  return true;
}
function noPose(subject, stack) {
  const judged = content(subject).registration;
  if (!judged) return [];
  const parts = judged.stacks.filter((part) => !part.posed).map((part) => part.stack);
  return stack === 0 ? parts : parts.filter((part) => part === stack);
}
function judge(verdict) {
  const entry = entryOf(current);
  if (entry.refused || needReader()) return;
  const hopeless = verdict === "failed" ? [] : noPose(current, chosen);
  if (hopeless.length) {
    tell(`Stack ${hopeless.join(", ")} has no pose that could be accepted${chosen === 0 ? "; choose the other stacks one by one" : ""}.`);
    return;
  }
  const judged = (mine().judged[current] ||= {});
  if (chosen === 0) Object.keys(judged).forEach((stack) => delete judged[stack]);
  judged[chosen] = { verdict, reason: $("reason").value.trim(), stamp: content(current).stamp };
  tell(`${current}${chosen ? `, stack ${chosen}` : ""}: ${DONE[verdict]}.`);
  keep();
  panel();
}
function undo() {
  const judged = (mine().judged[current] ||= {});
  if (inFile(current, chosen).some((row) => readerKey(row.reader) === readerKey(store.reader))) judged[chosen] = { verdict: "" };
  else delete judged[chosen];
  tell(`${current}${chosen ? `, stack ${chosen}` : ""}: taken back.`);
  keep();
  panel();
}
function moveTo(disc, point, mm) {
  const found = original(disc, point);
  const moved = (mine().moved[current] ||= {});
  const key = `${disc}/${point}`;
  const same = mm && Math.hypot(...mm.map((value, n) => value - found[n])) < 0.01;
  if (!mm || same) delete moved[key];
  else moved[key] = { mm: mm.map((value) => Math.round(value * 100) / 100) };
}
function original(disc, point) {
  const found = content(current).discs.find((entry) => entry.name === disc);
  return found && found[`${point}_mm`];
}
function guessed(disc) { return content(current).discs.find((entry) => entry.name === disc).guessed; }
function place(disc, point) {
  const moved = (mine().moved[current] || {})[`${disc}/${point}`];
  return moved ? moved.mm : original(disc, point);
}

/* --- rows of review.tsv ------------------------------------------------------------------------ */

const clean = (text) => String(text).replace(/[\t\r\n]+/g, " ").trim();
function ownRows() {
  const rows = [], state = mine(), reader = clean(store.reader);
  const base = { task: head.task, reader };
  for (const { subject } of head.subjects) {
    const judged = state.judged[subject] || {};
    for (const stack of Object.keys(judged).sort((a, b) => a - b)) {
      rows.push({ ...base, subject, stack: stack === "0" ? "" : stack, verdict: judged[stack].verdict, reason: clean(judged[stack].reason || "") });
    }
    for (const [key, move] of Object.entries(state.moved[subject] || {}).sort()) {
      const [disc, point] = key.split("/");
      const [x, y, z] = move.mm.map((value) => value.toFixed(2));
      rows.push({ ...base, subject, disc, point, x_mm: x, y_mm: y, z_mm: z });
    }
  }
  return rows;
}
const keyOf = (row) => [row.subject, row.task, Number(row.stack || 0), row.disc || "", row.point || "", readerKey(row.reader || "")].join("\t");
function merged() {
  const own = ownRows(), replaced = new Set(own.map(keyOf));
  const outdated = (row) => replaced.has(keyOf(row))
    || (row.verdict && replaced.has(keyOf({ ...row, stack: 0 })) && saidAll(row.subject));
  const before = loaded ? loaded.lines.filter((row) => typeof row === "string" || !outdated(row)) : [];
  return [...before, ...own.filter((row) => row.disc || row.verdict)];
}
function tsv() {
  const line = (row) => (typeof row === "string" ? row : COLUMNS.map((column) => clean(row[column] ?? "")).join("\t"));
  return [COLUMNS.join("\t"), ...merged().map(line)].join("\n") + "\n";
}
function parse(text) {
  const lines = text.replace(/^\uFEFF/, "").split(/\r?\n/);
  while (lines.length && !lines[lines.length - 1].trim()) lines.pop();
  const first = lines.findIndex((line) => line.trim() && !line.startsWith("#"));
  if (first < 0) return { lines: [] };
  const columns = lines[first].split("\t").map((cell) => cell.trim());
  const unknown = columns.filter((column) => !COLUMNS.includes(column));
  if (unknown.length || !["subject", "task", "stack", "verdict", "reader"].every((column) => columns.includes(column))) {
    throw new Error(unknown.length ? `it has a column '${unknown[0]}'` : "its first line lacks some columns");
  }
  const rows = lines.map((line, n) => {
    if (n === first) return null;
    if (!line.trim() || line.startsWith("#")) return line;
    const cells = line.split("\t");
    const row = Object.fromEntries(columns.map((column, m) => [column, (cells[m] || "").trim()]));
    row.subject = row.subject.replace(/^sub-/, "");
    return row;
  });
  return { lines: rows.filter((row) => row !== null) };
}
async function open(file) {
  try {
    loaded = parse(await file.text());
    const rows = loaded.lines.filter((row) => typeof row !== "string").length;
    tell(`${rows} row${rows === 1 ? "" : "s"} loaded; what you download holds them too.`);
  } catch (error) {
    tell(`This file can't be read as review.tsv: ${error.message}.`);
  }
  summary();
  show(current);
}
function ready() {
  if (needReader()) return false;
  if (head.rowsInFile && !loaded) {
    tell(`config/review.tsv held ${head.rowsInFile} row${head.rowsInFile === 1 ? "" : "s"} when this page was made. Load it first, or add these rows below its own.`);
  }
  return true;
}
function download() {
  if (!ready()) return;
  const url = URL.createObjectURL(new Blob([tsv()], { type: "text/tab-separated-values" }));
  const link = el("a", { href: url, download: "review.tsv" });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
async function copy() {
  if (!ready()) return;
  $("export").open = true;
  const text = $("text");
  text.focus();
  text.select();
  try { await navigator.clipboard.writeText(tsv()); } catch (error) { document.execCommand("copy"); }
  tell("Copied.");
}

/* --- one subject ---------------------------------------------------------------------------------- */

function measures(judged) {
  const columns = [["whole", judged], ...judged.stacks.map((part) => [`stack ${part.stack}`, part])];
  if (judged.stacks.length === 1) columns.pop();
  /* One measure may have two thresholds, one for failure and one for acceptance. */
  const key = (gate) => `${gate.measure} ${gate.side} ${gate.limit}`;
  const names = [...new Set(columns.flatMap(([, part]) => part.gates.map(key)))];
  const body = el("tbody");
  body.append(el("tr", {}, el("td", { text: "verdict" }), el("td"), ...columns.map(([, part]) =>
    el("td", {}, el("span", { class: `is-${part.verdict}`, text: part.verdict + (part.posed ? "" : ", no pose") })))));
  for (const name of names) {
    const gates = columns.map(([, part]) => part.gates.find((gate) => key(gate) === name));
    const one = gates.find(Boolean), measure = one.measure;
    const limit = one.limit === null ? "" : `${one.side === "most" ? "at most" : "at least"} ${number(one.limit)}`;
    body.append(el("tr", {}, el("td", { text: MEASURES[measure] || measure.replace(/_mm$/, ", mm").replace(/_deg$/, ", °").replaceAll("_", " ") }),
      el("td", { class: "limit", text: limit }),
      ...gates.map((gate) => el("td", { class: gate && gate.passed === false ? "bad" : null, text: gate ? number(gate.value) : "" }))));
  }
  return el("div", { class: "table" }, el("table", {}, el("thead", {}, el("tr", {}, el("th", { text: "Registration" }), el("th", { text: "threshold" }),
    ...columns.map(([name]) => el("th", { text: name })))), body));
}
function number(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "boolean") return value ? "yes" : "no";
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(2);
}
function panel() {
  const entry = entryOf(current), box = $("judge");
  if (!box) return;
  const word = said(current, chosen);
  const stacks = el("div", { class: "stacks", role: "group", "aria-label": "What is judged" });
  for (let stack = 0; stack <= (entry.stacks > 1 ? entry.stacks : 0); stack += 1) {
    const own = said(current, stack);
    stacks.append(el("button", { type: "button", "aria-pressed": String(stack === chosen), "data-stack": stack, onclick: () => choose(stack),
      text: (stack ? `stack ${stack}` : entry.stacks > 1 ? "all stacks" : "the pair") + (own ? ` ${SYMBOL[own.verdict]}` : "") }));
  }
  const buttons = Object.entries(WORDS).map(([verdict, text]) => el("button", { type: "button", class: `is-${verdict}`, "data-verdict": verdict,
    "aria-pressed": String(Boolean(word && word.verdict === verdict)), disabled: verdict !== "failed" && noPose(current, chosen).length > 0,
    title: verdict !== "failed" && noPose(current, chosen).length > 0 ? "there is no pose that could be accepted" : null,
    onclick: () => judge(verdict), text }));
  const reason = el("input", { id: "reason", placeholder: "reason", "aria-label": "reason", value: (word && word.reason) || "", maxlength: 300,
    onchange: () => { const own = (mine().judged[current] || {})[chosen]; if (own && own.verdict) { own.reason = $("reason").value.trim(); keep(); } } });
  const back = el("button", { type: "button", disabled: !word, onclick: undo, text: "undo" });
  box.replaceChildren(stacks, ...buttons, reason, back);
  const others = Object.entries(entry.judged).map(([stack, verdict]) => `${stack === "0" ? "all stacks" : `stack ${stack}`} ${DONE[verdict]}`);
  for (const row of [0, ...Array.from({ length: entry.stacks }, (_, n) => n + 1)].flatMap((stack) => inFile(current, stack))) {
    if (readerKey(row.reader) !== readerKey(store.reader)) others.push(`${row.reader || "someone"}: ${row.stack ? `stack ${row.stack} ` : ""}${DONE[row.verdict] || row.verdict}`);
  }
  const old = word && word.stamp && word.stamp !== content(current).stamp ? " Your verdict is about an earlier registration: look again." : "";
  $("others").textContent = (others.length ? `In review.tsv: ${others.join("; ")}.` : "") + old;
}
function choose(stack) { chosen = stack; panel(); }
function moves() {
  const list = $("moves");
  if (!list) return;
  const card = content(current), moved = mine().moved[current] || {};
  const rows = Object.keys(moved).sort().map((key) => {
    const [disc, point] = key.split("/"), found = original(disc, point);
    const far = Math.hypot(...moved[key].mm.map((value, n) => value - found[n]));
    return el("li", {}, `${point} of ${disc}: moved by ${far.toFixed(1)} mm`,
      el("button", { type: "button", text: "put back", onclick: () => { moveTo(disc, point, null); redraw.forEach((draw) => draw()); keep(); moves(); } }));
  });
  for (const row of card.moved) rows.push(el("li", { text: `${row.point} of ${row.disc} stands where ${row.readers === 1 ? "a reader" : `${row.readers} readers`} put it`
    + (row.shift_mm === null ? "" : `, ${row.shift_mm.toFixed(1)} mm from where it was found`) }));
  list.replaceChildren(...rows);
}
function show(subject) {
  const entry = entryOf(subject), main = $("card");
  if (!entry) { main.replaceChildren(el("p", { text: "No subject to show." })); return; }
  if (subject !== current) chosen = 0;
  current = subject;
  redraw = [];
  for (const button of $("list").querySelectorAll("button")) button.setAttribute("aria-current", String(button.dataset.subject === subject));
  if (entry.refused) {
    const { code, message, remedy } = entry.refused;
    main.replaceChildren(el("div", { class: "title" }, el("h2", { text: `sub-${subject}` }), el("span", { class: "is-failed", text: "left out" })),
      el("div", { class: "refusal" }, el("p", {}, el("b", { text: code }), ` ${message}`), el("p", { text: remedy })));
    return;
  }
  const card = content(subject), judged = card.registration;
  const title = el("div", { class: "title" }, el("h2", { text: `sub-${subject}` }));
  const why = [];
  if (judged) {
    title.append(el("span", {}, "registration: ", el("b", { class: `is-${entry.verdict}`, text: entry.verdict })));
    if (judged.reasons.length) why.push(judged.reasons.join("; "));
    for (const part of judged.stacks) if (part.reasons.length && judged.stacks.length > 1) why.push(`stack ${part.stack}: ${part.reasons.join("; ")}`);
  } else title.append(el("span", { text: "one frame of reference, nothing registered" }));
  title.append(el("span", { class: "why", text: `${entry.picked} of ${entry.slices} slices taken` }));
  const parts = [title];
  if (why.length) parts.push(el("p", { class: "why", text: why.join(". ") + "." }));
  parts.push(el("div", { id: "judge", class: "judge" }), el("p", { id: "others", class: "why" }), el("ul", { id: "moves", class: "moves" }));
  if (judged) parts.push(measures(judged));
  const size = el("label", { class: "size" }, "size ", el("input", { type: "range", min: 140, max: 460, value: store.size || 210,
    oninput: (event) => { store.size = Number(event.target.value); document.documentElement.style.setProperty("--view", `${store.size}px`); keep(); } }));
  parts.push(el("h3", {}, size, card.slices === "discs" ? "Discs" : "Slices"));
  const views = el("div", { class: "views" });
  for (const view of card.views) views.append(slice(card, view));
  parts.push(el("div", { class: "pictures" }, card.sagittal ? sagittal(card) : null, views));
  if (card.unseen.length) parts.push(el("p", { class: "why", text: `Without a slice: ${card.unseen.map((row) => `${row.name} (${CODES[row.code] || row.code})`).join(", ")}.` }));
  const titles = { register: "Registration: overlay, checkerboard, edges", locate: "Where the discs were found" };
  for (const [name, picture] of Object.entries(card.figures).sort().reverse()) {
    parts.push(el("details", { open: name === "register" }, el("summary", { text: titles[name] }),
      el("img", { src: `data:image/png;base64,${card.png[picture]}`, alt: titles[name], decoding: "async" })));
  }
  main.replaceChildren(...parts);
  panel();
  moves();
  redraw.forEach((draw) => draw());
}

/* --- the list, the keys -------------------------------------------------------------------------- */

function ordered() {
  const list = [...head.subjects];
  if ($("order").value === "name") list.sort((a, b) => (a.subject < b.subject ? -1 : 1));
  return $("open").checked ? list.filter((entry) => !entry.refused && (!isDone(entry) || entry.subject === current)) : list;
}
function summary() {
  const judgeable = head.subjects.filter((entry) => !entry.refused);
  const done = store.reader.trim() ? judgeable.filter(isDone).length : 0;
  $("count").textContent = `${done} of ${judgeable.length} judged`;
  $("bar").max = Math.max(1, judgeable.length);
  $("bar").value = done;
  $("list").replaceChildren(...ordered().map((entry) => {
    const verdict = entry.refused ? "refused" : entry.verdict || "accepted", own = entry.refused || !store.reader.trim() ? null : worstSaid(entry);
    const moved = Object.keys(mine().moved[entry.subject] || {}).length;
    return el("li", {}, el("button", { type: "button", "data-subject": entry.subject, "aria-current": String(entry.subject === current), onclick: () => go(entry.subject) },
      el("span", { class: `mark ${verdict}`, role: "img", "aria-label": entry.refused ? "left out" : `registration ${verdict}` }), entry.subject,
      el("span", { class: `mine ${own ? `is-${own}` : ""}`, text: (moved ? "✎ " : "") + (own ? DONE[own] : "") })));
  }));
  $("text").value = tsv();
}
function go(subject) {
  show(subject);
  summary();
  window.scrollTo(0, 0);
  $("card").focus({ preventScroll: true });
}
function step(by) {
  const list = ordered().map((entry) => entry.subject), at = list.indexOf(current);
  const next = list[Math.min(list.length - 1, Math.max(0, at + by))];
  if (next && next !== current) {
    go(next);
    const button = $("list").querySelector('[aria-current="true"]');
    if (button) button.scrollIntoView({ block: "nearest" });
  }
}
function tell(text) { $("note").textContent = text; }

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
  const entry = entryOf(current);
  if (event.key === "j") step(1);
  else if (event.key === "k") step(-1);
  else if (event.key === "b") $("card").classList.toggle("swap");
  else if (!entry || entry.refused) return;
  else if (KEYS[event.key]) judge(KEYS[event.key]);
  else if (event.key === "u") undo();
  else if (/^[0-9]$/.test(event.key) && Number(event.key) <= (entry.stacks > 1 ? entry.stacks : 0)) choose(Number(event.key));
  else return;
  event.preventDefault();
});
$("reader").addEventListener("input", () => { store.reader = $("reader").value; });
$("reader").addEventListener("change", () => { store.reader = $("reader").value; tell(""); keep(); show(current); });
$("reader").addEventListener("keydown", (event) => { if (event.key === "Enter") $("reader").blur(); });
$("load").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => { if ($("file").files[0]) open($("file").files[0]); });
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => { event.preventDefault(); if (event.dataTransfer.files[0]) open(event.dataTransfer.files[0]); });
$("download").addEventListener("click", download);
$("copy").addEventListener("click", copy);
$("order").addEventListener("change", summary);
$("open").addEventListener("change", summary);

function agreed() {
  if (!head.agreement.length) return;
  const rows = head.agreement.map((row) => `Readers ${row.first} and ${row.second}: ${row.stacks} stacks judged by both, agreement ${number(row.agreement)}, kappa ${number(row.kappa)}`
    + (row.points ? `; ${row.points} points moved by both, ${number(row.distance_mm)} mm apart (median)` : ""));
  $("agreement").append(el("h3", { text: "Agreement in review.tsv when this page was made" }), ...rows.map((text) => el("p", { text })));
}

restore();
$("reader").value = store.reader;
if (store.size) document.documentElement.style.setProperty("--view", `${store.size}px`);
agreed();
summary();
show(head.subjects.length ? head.subjects[0].subject : null);
summary();
