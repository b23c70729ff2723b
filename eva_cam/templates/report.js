"use strict";
const $ = (s, at = document) => at.querySelector(s), $$ = (s, at = document) => [...at.querySelectorAll(s)];
const el = (tag, props = {}, ...kids) => { const e = Object.assign(document.createElement(tag), props); e.append(...kids); return e; };
const P = JSON.parse($("#page").textContent);
const bytes = s => Uint8Array.from(atob(s), c => c.charCodeAt(0));
const [H, W] = P.size, [gh, gw] = P.grid, CELLS = gh * gw, PAGE = 96;
const MAPS = P.bits === 16 ? new Int16Array(bytes(P.maps).buffer) : new Int8Array(bytes(P.maps).buffer), FULL = P.bits === 16 ? 32767 : 127;
const LUT = Object.fromEntries(Object.entries(P.luts).map(([k, v]) => [k, bytes(v)]));
const pct = p => (p > 0.9995 && p < 1 ? ">\u00a099.9" : p < 0.0005 && p > 0 ? "<\u00a00.1" : (100 * p).toFixed(1)) + "\u00a0%";
const name = c => P.classes[c];
let list = [], deck = [], shown = 0, open = -1, group = null, only = null;

// ---- theme: the reader's system decides until the button does
const dark = matchMedia("(prefers-color-scheme: dark)");
function theme(t) { document.documentElement.dataset.theme = t; $("#theme").textContent = t === "dark" ? "Light" : "Dark"; }
theme(dark.matches ? "dark" : "light");
dark.addEventListener("change", e => theme(e.matches ? "dark" : "light"));
$("#theme").addEventListener("click", () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));

// ---- the maths of a map: bilinear (align_corners=False), then scaled, then through a 256-entry table
function taps(n, g) {
  const out = [];
  for (let i = 0; i < n; i++) {
    const at = Math.max((i + 0.5) * g / n - 0.5, 0), lo = Math.min(Math.floor(at), g - 1);
    out.push([lo, Math.min(lo + 1, g - 1), at - lo]);
  }
  return out;
}
const TY = taps(H, gh), TX = taps(W, gw);
function grid(k, which) {
  const m = new Float32Array(CELLS), a = 2 * k * CELLS, b = a + CELLS, [sp, st] = P.scale[k];
  const value = (v, [above, below]) => v / FULL * (v > 0 ? above : below);
  for (let c = 0; c < CELLS; c++) {
    const p = value(MAPS[a + c], sp), t = value(MAPS[b + c], st);
    m[c] = which === "diff" ? p - t : which === "true" ? t : p;
  }
  return m;
}
function heat(k, which) {                     // 0..255 for each pixel of the image
  const g = grid(k, which), up = new Float32Array(H * W), idx = new Uint8Array(H * W);
  if (which !== "diff") for (let c = 0; c < CELLS; c++) g[c] = Math.max(g[c], 0);
  for (let y = 0, o = 0; y < H; y++) {
    const [y0, y1, fy] = TY[y];
    for (let x = 0; x < W; x++, o++) {
      const [x0, x1, fx] = TX[x];
      const top = g[y0 * gw + x0] * (1 - fx) + g[y0 * gw + x1] * fx, low = g[y1 * gw + x0] * (1 - fx) + g[y1 * gw + x1] * fx;
      up[o] = top * (1 - fy) + low * fy;
    }
  }
  let most = 0;
  for (const v of which === "diff" ? g : up) most = Math.max(most, Math.abs(v));
  if (which === "diff") for (let o = 0; o < up.length; o++) idx[o] = Math.round((most > 0 ? up[o] / most + 1 : 1) * 127.5);
  else if (most > 0 && !flag(k, which)) for (let o = 0; o < up.length; o++) idx[o] = Math.round(up[o] / most * 255);
  return idx;
}
const table = which => which === "diff" ? LUT[P.diverging] : LUT[$("#cmap").value];
function paint(canvas, idx, lut) {
  canvas.width = W; canvas.height = H;
  const im = new ImageData(W, H), d = im.data;
  for (let o = 0; o < idx.length; o++) { const c = 3 * idx[o]; d[4 * o] = lut[c]; d[4 * o + 1] = lut[c + 1]; d[4 * o + 2] = lut[c + 2]; d[4 * o + 3] = 255; }
  canvas.getContext("2d").putImageData(im, 0, 0);
}
const sheets = P.sheets.map(src => Object.assign(new Image(), { src }));
function picture(canvas, k) {
  canvas.width = W; canvas.height = H;
  const s = Math.floor(k / P.per), at = k % P.per;
  canvas.getContext("2d").drawImage(sheets[s], at % P.cols * W, Math.floor(at / P.cols) * H, W, H, 0, 0, W, H);
}
const FLAG = { flat: "the map is flat", negative: "nothing speaks for this class", nan: "the map is not a number" };
const flag = (k, which) => { const f = P.rows[k].flags; return which === "true" ? FLAG[f[1]] : which === "pred" ? FLAG[f[0]] : f[0] === "nan" || f[1] === "nan" ? FLAG.nan : grid(k, "diff").some(v => v) ? undefined : "both maps are alike"; };
function place(k, which) {
  const g = grid(k, which); let at = 0;
  for (let c = 1; c < CELLS; c++) if (g[c] > g[at]) at = c;
  const v = ["upper", "middle", "lower"][Math.floor((Math.floor(at / gw) + 0.5) / gh * 3)], h = ["left", "centre", "right"][Math.floor((at % gw + 0.5) / gw * 3)];
  return v === "middle" && h === "centre" ? "centre" : `${v} ${h}`;
}
function alt(k) {
  const r = P.rows[k], which = $("#which").value;
  const what = r.t === r.p ? `${name(r.t)}, recognised with ${pct(r.pp)}` : `${name(r.t)} taken for ${name(r.p)} with ${pct(r.pp)}`;
  return `Image ${r.idx}: ${what}; ` + (flag(k, which) || `the map ${which === "diff" ? "of the difference" : "of " + name(which === "true" ? r.t : r.p)} is strongest at the ${place(k, which)}`);
}

// ---- cards
function fill(card, k) {
  const r = P.rows[k], stack = el("span", { className: "stack" }, el("canvas"), el("canvas"));
  stack.setAttribute("role", "img");
  const b = el("button", { type: "button" }, stack,
    el("span", { className: r.t === r.p ? "p right" : "p", textContent: `${name(r.p)} ${pct(r.pp)}` }),
    el("span", { className: "t", textContent: r.t === r.p ? "right" : `true: ${name(r.t)} ${pct(r.pt)}` }));
  const f = flag(k, $("#which").value);
  if (f) b.append(el("span", { className: "f", textContent: f }));
  b.addEventListener("click", () => view(list.indexOf(k) >= 0 ? list : [k], Math.max(list.indexOf(k), 0)));
  card.replaceChildren(b); card.k = k; card.dataset.k = k; card.drawn = false;
  stack.setAttribute("aria-label", alt(k));
  seen.observe(card);
}
function draw(card) {
  const [px, hm] = $$("canvas", card), which = $("#which").value;
  picture(px, card.k); paint(hm, heat(card.k, which), table(which)); card.drawn = true;
}
const seen = new IntersectionObserver(es => { for (const e of es) if (e.isIntersecting) { seen.unobserve(e.target); draw(e.target); } }, { rootMargin: "300px" });
function grow() {
  const to = Math.min(shown + PAGE, list.length);
  for (; shown < to; shown++) { const c = el("div", { className: "card" }); c.setAttribute("role", "listitem"); $("#gallery").append(c); fill(c, list[shown]); }
  $("#more").hidden = shown >= list.length;
  $("#how_many").textContent = `${list.length} of ${P.gallery.length} images` + (shown < list.length ? ` (the first ${shown} are on the page)` : "");
}
function redraw() {                            // another map or another colour table: the cards stay, their heat changes
  for (const c of $$(".card")) if (c.k !== undefined) fill(c, c.k);
  key(); if (open >= 0) show();
}
function key() {
  const lut = table($("#which").value), c = $("#key"), im = new ImageData(256, 1);
  for (let i = 0; i < 256; i++) im.data.set([lut[3 * i], lut[3 * i + 1], lut[3 * i + 2], 255], 4 * i);
  c.getContext("2d").putImageData(im, 0, 0);
  const d = $("#which").value === "diff";
  $("#lo").textContent = d ? "true class" : "0"; $("#hi").textContent = d ? "predicted" : "most";
}
const ORDER = { row: (a, b) => a.row - b.row, loss: (a, b) => b.loss - a.loss, sure: (a, b) => b.pp - a.pp, unsure: (a, b) => a.pp - b.pp };
function refilter() {
  const t = $("#true").value, p = $("#pred").value, by = ORDER[$("#order").value];
  list = P.gallery.filter(k => { const r = P.rows[k];
    return (t === "" || r.t === +t) && (p === "" || r.p === +p) && (group === null || r.g === group) && (!only || only.has(k)); });
  list.sort((a, b) => by(P.rows[a], P.rows[b]) || a - b);
  $("#gallery").replaceChildren(); shown = 0; grow();
  const bits = [t !== "" && `true ${name(+t)}`, p !== "" && `predicted ${name(+p)}`, group !== null && `group ${group + 1}`, only && "picked above"].filter(Boolean);
  $("#which_ones").textContent = bits.length ? ": " + bits.join(", ") : "";
  for (const b of $$(".confusion button")) { const s = JSON.parse(b.dataset.show); b.setAttribute("aria-pressed", String(t !== "" && p !== "" && s.true === +t && s.pred === +p)); }
  const q = new URLSearchParams(); if (t !== "") q.set("true", t); if (p !== "") q.set("pred", p); if (group !== null) q.set("group", group); if ($("#order").value !== "row") q.set("order", $("#order").value);
  try { history.replaceState(null, "", q.size ? "#" + q : location.pathname + location.search); } catch { /* a sandboxed frame keeps no address */ }
}
const offers = (id, v) => [...$(id).options].some(o => o.value === String(v));
function choose(id, c) {                       // a class that no image of the gallery has shows none of them, and not all
  if (c != null && P.classes[c] !== undefined && !offers(id, c)) $(id).append(el("option", { value: c, textContent: name(c) }));
  $(id).value = c != null && offers(id, c) ? c : "";
}
function set(s) {
  choose("#true", s.true); choose("#pred", s.pred); group = s.group ?? null; only = s.only ? new Set(s.only) : null;
  if (s.order && offers("#order", s.order)) $("#order").value = s.order;
  if (s.which && s.which !== $("#which").value) { $("#which").value = s.which; redraw(); }
  refilter();
}

// ---- one image, large
function view(rows, at) { deck = rows; open = at; show(); if (!$("#view").open) $("#view").showModal(); }
function show() {
  const k = deck[open], r = P.rows[k], which = $("#which").value;
  $("#vtitle").textContent = r.t === r.p ? `${name(r.t)}, recognised` : `${name(r.t)}, taken for ${name(r.p)}`;
  $("#vnote").textContent = `Image ${r.idx}${r.file ? " (" + r.file + ")" : ""}. Loss ${r.loss.toFixed(2)}. ` + (flag(k, which) ? `Note: ${flag(k, which)}.` : `The map is strongest at the ${place(k, which)}` + (r.border === null ? "." : `; ${(100 * r.border).toFixed(0)} % of the predicted class's map lies on the border.`));
  $("#vmap").textContent = `${P.method} at ${P.layer} for ` + (which === "diff" ? `${name(r.p)} − ${name(r.t)}` : name(which === "true" ? r.t : r.p));
  const idx = heat(k, which);
  for (const c of $$("#view .px, #view .px2")) picture(c, k);
  for (const c of $$("#view .heat, #view .heat2")) paint(c, idx, table(which));
  for (const c of $$("#view canvas")) { c.setAttribute("role", "img"); c.setAttribute("aria-label", alt(k)); }
  $("#vbars").replaceChildren(...r.top.flatMap(([c, p, z]) => {
    const bar = el("i"); bar.style.width = 100 * p + "%";
    return [el("span", { textContent: name(c) }), el("span", { className: "track" + (c === r.p ? " pred" : "") + (c === r.t ? " true" : "") }, bar), el("span", { textContent: `${pct(p)}  (logit ${z.toFixed(2)})` })];
  }));
  $("#vpos").textContent = `${open + 1} of ${deck.length}`; $("#prev").disabled = open === 0; $("#next").disabled = open === deck.length - 1;
}
const step = d => { const to = Math.min(Math.max(open + d, 0), deck.length - 1); if (to !== open) { open = to; show(); } };

// ---- wiring
for (const s of ["true", "pred"]) for (const c of [...new Set(P.gallery.map(k => P.rows[k][s[0]]))].sort((a, b) => a - b)) $("#" + s).append(el("option", { value: c, textContent: name(c) }));
$("#blend").addEventListener("input", e => { const a = +e.target.value; document.body.style.setProperty("--a", a); $("#blendout").textContent = a.toFixed(2); });
$("#which").addEventListener("change", redraw); $("#cmap").addEventListener("change", redraw);
for (const id of ["true", "pred"]) $("#" + id).addEventListener("change", () => { group = only = null; refilter(); });
$("#order").addEventListener("change", refilter);
$("#reset").addEventListener("click", () => set({ order: "row" })); $("#more").addEventListener("click", grow); $("#bar").addEventListener("submit", e => e.preventDefault());
for (const b of $$("[data-show]")) b.addEventListener("click", () => { set(JSON.parse(b.dataset.show)); $("#mistakes").scrollIntoView(); $("#mistakes").focus({ preventScroll: true }); });
$("#prev").addEventListener("click", () => step(-1)); $("#next").addEventListener("click", () => step(1));
$("#view").addEventListener("close", () => { open = -1; });
$("#view").addEventListener("keydown", e => { if (e.key === "ArrowLeft") step(-1); else if (e.key === "ArrowRight") step(1); else return; e.preventDefault(); });
$("#gallery").addEventListener("keydown", e => {
  const all = $$("#gallery button"), at = all.indexOf(document.activeElement); if (at < 0) return;
  const wide = Math.max(1, all.filter(b => b.getBoundingClientRect().top === all[0].getBoundingClientRect().top).length);
  const to = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: wide, ArrowUp: -wide }[e.key];
  if (to && all[at + to]) { all[at + to].focus(); e.preventDefault(); }
});
addEventListener("beforeprint", () => { for (const c of $$(".card")) if (c.k !== undefined && !c.drawn) draw(c); });
if (Math.max(H, W) <= 96) document.body.classList.add("small"); else document.body.style.setProperty("--cell", "190px");
Promise.all(sheets.map(s => s.decode())).then(() => {
  document.body.style.setProperty("--a", $("#blend").value); $("#blendout").textContent = (+$("#blend").value).toFixed(2);
  for (const c of $$(".strip .card")) fill(c, +c.dataset.i);
  key(); const q = new URLSearchParams(location.hash.slice(1));
  set({ true: q.get("true"), pred: q.get("pred"), group: q.has("group") ? +q.get("group") : null, order: q.get("order") });
  document.body.dataset.ready = "yes";
}).catch(() => { $("#how_many").textContent = "The pictures in this file cannot be read: it is damaged, or too large for the memory of this browser."; });
