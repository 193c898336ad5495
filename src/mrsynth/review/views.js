
"use strict";
/* Pictures with the points on them. A view maps pixels to LPS mm: origin + column·across + row·down. */

function content(subject) {
  if (!cards[subject]) cards[subject] = JSON.parse($(`card-${subject}`).textContent);
  return cards[subject];
}
const dot = (a, b) => a.reduce((sum, value, n) => sum + value * b[n], 0);
function toPixel(view, mm) {
  const offset = mm.map((value, n) => value - view.origin_mm[n]);
  const aa = dot(view.across_mm, view.across_mm), dd = dot(view.down_mm, view.down_mm), ad = dot(view.across_mm, view.down_mm);
  const a = dot(offset, view.across_mm), d = dot(offset, view.down_mm), det = aa * dd - ad * ad;
  return [(a * dd - d * ad) / det + 0.5, (d * aa - a * ad) / det + 0.5];
}
const shift = (view, mm, columns, rows) => mm.map((value, n) => value + columns * view.across_mm[n] + rows * view.down_mm[n]);
const scale = (view) => Math.hypot(...view.across_mm);

function canvas(view, name, label) {
  const png = content(current).png[name];
  return el("svg:svg", { viewBox: `0 0 ${view.columns} ${view.rows}`, role: "group", "aria-label": label },
    el("svg:image", { href: `data:image/png;base64,${png}`, width: view.columns, height: view.rows }));
}
function handle(svg, view, disc, point) {
  const found = original(disc, point);
  if (!found) return;
  const mm = scale(view), grip = GRIP_MM / mm, arm = CROSS_MM / mm;
  const ghost = el("svg:circle", { class: "ghost", r: arm });
  const cross = point === "centre" ? `M${-arm} 0H${arm}M0 ${-arm}V${arm}` : `M${-arm * 0.75} ${-arm * 0.75}L${arm * 0.75} ${arm * 0.75}M${-arm * 0.75} ${arm * 0.75}L${arm * 0.75} ${-arm * 0.75}`;
  const node = el("svg:g", { class: `handle of-${point}`, tabindex: 0, role: "button", "data-disc": disc, "data-point": point },
    el("svg:circle", { class: "grip", r: grip }), el("svg:circle", { class: "ring", r: arm * 1.5 }), el("svg:path", { class: "cross", d: cross }));
  svg.append(ghost, node);
  const update = () => {
    const at = toPixel(view, place(disc, point)), was = toPixel(view, found);
    const moved = Boolean((mine().moved[current] || {})[`${disc}/${point}`]);
    node.setAttribute("transform", `translate(${at[0]} ${at[1]})`);
    node.setAttribute("aria-label", `${point} of ${disc}, ${place(disc, point).map((value) => value.toFixed(1)).join(", ")} mm`);
    node.classList.toggle("moved", moved);
    node.classList.toggle("unknown", point === "sac" && !moved && guessed(disc));
    ghost.setAttribute("cx", was[0]);
    ghost.setAttribute("cy", was[1]);
    ghost.toggleAttribute("hidden", !moved);
  };
  redraw.push(update);
  let start = null;
  const pixel = (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    return [Math.min(view.columns, Math.max(0, at.x)), Math.min(view.rows, Math.max(0, at.y))];
  };
  node.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || needReader()) return;
    start = { at: pixel(event), mm: place(disc, point) };
    node.setPointerCapture(event.pointerId);
    node.focus();
    event.preventDefault();
  });
  node.addEventListener("pointermove", (event) => {
    if (!start) return;
    const at = pixel(event);
    moveTo(disc, point, shift(view, start.mm, at[0] - start.at[0], at[1] - start.at[1]));
    redraw.forEach((draw) => draw());
  });
  const end = () => { if (start) { start = null; keep(); moves(); } };
  node.addEventListener("pointerup", end);
  node.addEventListener("pointercancel", end);
  node.addEventListener("keydown", (event) => {
    const step = NUDGE[event.key];
    if (event.key === "Escape") moveTo(disc, point, null);
    else if (step) { if (needReader()) return; moveTo(disc, point, shift(view, place(disc, point), (step[0] * NUDGE_MM) / mm, (step[1] * NUDGE_MM) / mm)); }
    else return;
    event.preventDefault();
    redraw.forEach((draw) => draw());
    keep();
    moves();
  });
}
function line(svg, view, kind, at, normal, half, label) {
  const node = el("svg:line", { class: kind }), text = label ? el("svg:text", { class: "name", "text-anchor": "end" }) : null;
  svg.append(node);
  if (text) { text.textContent = label; svg.append(text); }
  const update = () => {
    const mm = at(), length = Math.hypot(normal[1], normal[2]);
    if (!mm || !length) return;
    let along = [0, normal[2] / length, -normal[1] / length];
    if (along[1] < 0) along = along.map((value) => -value);
    const ends = [-half, half].map((reach) => toPixel(view, mm.map((value, n) => value + reach * along[n])));
    ["x1", "y1", "x2", "y2"].forEach((key, n) => node.setAttribute(key, ends[n >> 1][n & 1]));
    if (text) { text.setAttribute("x", ends[0][0] - 3); text.setAttribute("y", ends[0][1] + 3); }
  };
  redraw.push(update);
}
function sides(view) { return ["source", "target"].filter((side) => view.pictures[side]); }

function sagittal(card) {
  const view = card.sagittal;
  const pair = el("div", { class: "pair" });
  for (const side of sides(view)) {
    const svg = canvas(view, view.pictures[side], `${card.labels[side]}, sagittal, following the discs`);
    for (const cut of view.lines) {
      if (!cut.through_mm) continue;
      const disc = card.discs.find((entry) => entry.name === cut.name);
      const at = disc ? foot(disc.centre_mm, cut) : cut.through_mm;
      line(svg, view, `cut ${cut.status}`, () => at, cut.normal, HALF_CUT_MM);
    }
    const first = side === sides(view)[0];
    for (const disc of card.discs) line(svg, view, "plane", () => place(disc.name, "centre"), disc.normal, HALF_PLANE_MM, first ? disc.name : null);
    for (const disc of card.discs) handle(svg, view, disc.name, "centre");
    svg.append(el("svg:text", { x: 5, y: 13, text: card.labels[side] }), ...letters(view));
    pair.append(svg);
  }
  const caption = el("figcaption", {}, el("b", { text: "Along the spine. " }),
    "Yellow: the discs' planes. Dashed: the slices that stand for them. A moved disc gets its slice anew on the next run.");
  return el("figure", { class: "sagittal" }, pair, caption);
}
function letters(view) {
  /* Which side of the patient either edge shows: R and L, A and P. LPS grows to L, P, S. */
  const axis = view.across_mm.map(Math.abs).indexOf(Math.max(...view.across_mm.map(Math.abs)));
  const ends = [["R", "L"], ["A", "P"], ["I", "S"]][axis];
  if (view.across_mm[axis] < 0) ends.reverse();
  const y = view.rows / 2 + 3;
  return [el("svg:text", { x: 3, y, text: ends[0] }), el("svg:text", { x: view.columns - 3, y, "text-anchor": "end", text: ends[1] })];
}
function foot(mm, cut) {
  const away = dot(mm.map((value, n) => value - cut.through_mm[n]), cut.normal);
  return mm.map((value, n) => value - away * cut.normal[n]);
}
const CODES = { OFFSET: "too far from the disc", ANGLE: "tilted too much", LEVEL: "level not wanted", TAKEN: "nearer to another disc", NO_SLICE: "not scanned" };
function slice(card, view) {
  const pair = el("div", { class: "pair" });
  const disc = card.discs.find((entry) => entry.name === view.name);
  for (const side of sides(view)) {
    const svg = canvas(view, view.pictures[side], `${card.labels[side]}, ${view.name}`);
    if (disc) for (const point of ["centre", "sac"]) handle(svg, view, view.name, point);
    svg.append(el("svg:text", { x: 4, y: 12, text: card.labels[side] }), ...letters(view));
    pair.append(svg);
  }
  const about = [`stack ${view.stack}, slice ${view.slice}`];
  if (view.offset_mm !== null) about.push(`${Math.abs(view.offset_mm).toFixed(1)} mm off`);
  if (view.angle_deg !== null) about.push(`${view.angle_deg.toFixed(1)}° tilted`);
  if (view.status !== "picked") about.push(`left out: ${CODES[view.code] || view.code}`);
  if (disc && disc.guessed) about.push("sac not found: drag × to it");
  const judged = card.registration && card.registration.stacks.find((part) => part.stack === view.stack);
  const caption = el("figcaption", {}, el("b", { text: `${view.name} ` }), about.join(" · "));
  if (judged) caption.append(" · ", el("span", { class: `is-${judged.verdict}`, text: judged.verdict }));
  return el("figure", { "data-view": view.name }, pair, caption);
}
