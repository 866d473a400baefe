"use strict";
// The page's state is in its address, so that a link shows what its sender saw:
// #at=cases&keep=98&hide=jpeg,webp&sort=cases.3.up&zoom=evaluation-1-chart~0.1~2~0.8~1, or plainly #cases.
const USUAL = "95";
const state = { at: "", keep: USUAL, hide: new Set(), sort: new Map(), zoom: new Map() };
const views = new Map(); // of the charts that were drawn again: name to Vega's view

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return ""; // cut off on its way here
  }
}

function readAddress() {
  const hash = location.hash.slice(1);
  const parts = new Map(hash.includes("=") ? hash.split("&").map((part) => part.split(/=(.*)/s, 2)) : [["at", hash]]);
  const list = (name) => (parts.get(name) ?? "").split(",").filter(Boolean).map(decode);
  state.at = decode(parts.get("at") ?? "");
  if (!hash.includes("=")) return;
  state.keep = parts.get("keep") ?? USUAL;
  state.hide = new Set(list("hide"));
  const sorted = list("sort").map((text) => /^(.+)\.(\d+)\.(up|down)$/.exec(text)).filter(Boolean);
  state.sort = new Map(sorted.map(([, table, column, way]) => [table, [Number(column), way]]));
  const zoomed = list("zoom").map((text) => text.split("~")).map(([chart, ...ends]) => [chart, ends.map(Number)]);
  state.zoom = new Map(zoomed.filter(([, ends]) => ends.length === 4 && ends.every(Number.isFinite)));
}

function hashOf({ at, keep, hide, sort, zoom }) {
  const list = (items) => Array.from(items, encodeURIComponent).join(",");
  const parts = [
    ["at", encodeURIComponent(at)],
    ["keep", keep === USUAL ? "" : keep],
    ["hide", list(hide)],
    ["sort", list(Array.from(sort, ([table, [column, way]]) => `${table}.${column}.${way}`))],
    ["zoom", list(Array.from(zoom, ([chart, ends]) => [chart, ...ends.map((end) => Number(end.toPrecision(5)))].join("~")))],
  ].filter(([, value]) => value);
  if (!parts.length) return "";
  return parts.length === 1 && at ? `#${parts[0][1]}` : `#${parts.map((part) => part.join("=")).join("&")}`;
}

function writeAddress() {
  history.replaceState(null, "", hashOf(state) || location.pathname + location.search);
  for (const link of document.querySelectorAll("a[data-page]")) {
    const [page, at] = link.dataset.page.split("#"); // the next page shows the same share and codecs
    link.href = page + hashOf({ ...state, at: at ?? "", sort: [], zoom: [] });
  }
}

// The share to keep: the style sheet does the rest.
for (const stop of document.querySelectorAll("input[name=keep]")) {
  stop.addEventListener("change", () => {
    state.keep = stop.value;
    writeAddress();
  });
}

// Draw the charts again when they come into sight, now with tooltips, zoom and codecs to hide. Where that fails, the drawn pictures stay.
const GLYPHS = {
  circle: "●", square: "■", "triangle-up": "▲", diamond: "◆", cross: "✚", "triangle-down": "▼", "triangle-right": "▶",
};

function button(text, act, label) {
  const made = document.createElement("button");
  made.type = "button";
  made.append(...[text].flat());
  made.addEventListener("click", act);
  if (label) made.setAttribute("aria-label", label);
  return made;
}

function showHidden() {
  for (const made of document.querySelectorAll("button[data-codec]")) {
    made.setAttribute("aria-pressed", String(!state.hide.has(made.dataset.codec)));
  }
  for (const { view, zooms } of views.values()) if (zooms) view.signal("hidden", [...state.hide]).runAsync();
}

function switches(name, description) {
  const row = document.createElement("div");
  row.className = "switches";
  row.setAttribute("role", "group");
  row.setAttribute("aria-label", "Codecs to show, and zoom");
  const { color, shape } = description.layer.at(-1).encoding;
  color.scale.domain.forEach((codec, place) => {
    const glyph = document.createElement("i");
    glyph.style.color = color.scale.range[place];
    glyph.textContent = GLYPHS[shape.scale.range[place]];
    glyph.setAttribute("aria-hidden", "true");
    const made = button([glyph, codec], () => {
      state.hide[state.hide.has(codec) ? "delete" : "add"](codec);
      showHidden();
      writeAddress();
    });
    made.dataset.codec = codec;
    row.append(made);
  });
  const zoom = document.createElement("span");
  zoom.className = "zoom";
  zoom.append(
    button("+", () => zoomBy(name, 0.7), "Zoom in"), " ", button("−", () => zoomBy(name, 1 / 0.7), "Zoom out"), " ",
    button("all", () => zoomBy(name, null), "Show all"),
  );
  row.append(zoom);
  return row;
}

// Zoom around the middle; the rate is on a logarithmic axis. Null shows all.
function zoomBy(name, factor) {
  const { view } = views.get(name) ?? {};
  if (!view) return;
  const ends = (domain, of, back) => {
    const [low, high] = domain.map(of);
    return [-1, 1].map((side) => back((low + high) / 2 + side * factor * (high - low) / 2));
  };
  const [x, y] = [view.scale("x").domain(), view.scale("y").domain()];
  view.signal("zoom_rate", factor && ends(x, Math.log, Math.exp)).signal("zoom_shown", factor && ends(y, Number, Number)).runAsync();
}

function enliven(drawing) {
  const name = drawing.dataset.chart;
  const description = JSON.parse(document.getElementById(name).textContent);
  const wide = drawing.clientWidth >= 600, zooms = !("small" in drawing.dataset);
  if (zooms) {
    description.width = "container";
    description.height = wide ? 360 : 300;
    for (const { encoding } of description.layer) for (const channel of [encoding.color, encoding.shape]) if (channel) channel.legend = null;
    const [hidden, zoom] = description.params;
    hidden.value = [...state.hide];
    const ends = state.zoom.get(name);
    if (ends) zoom.value = { x: ends.slice(0, 2), y: ends.slice(2) };
  } else {
    description.columns = Math.max(1, Math.min(description.columns, Math.floor(drawing.clientWidth / 205)));
  }
  const live = document.createElement("div");
  live.className = "vega";
  drawing.append(live);
  window.vegaEmbed(live, description, {
    renderer: "svg",
    ast: true, // expressions are interpreted: the page's policy allows no code from text
    actions: { export: true, source: false, compiled: false, editor: false },
    downloadFileName: drawing.dataset.name,
  }).then(
    ({ view }) => {
      views.set(name, { view, zooms });
      live.querySelector("summary")?.setAttribute("aria-label", "Save the chart as a picture");
      drawing.closest("figure").classList.add("is-live");
      if (!zooms) return;
      drawing.before(switches(name, description));
      showHidden();
      view.addSignalListener("zoom", (_, { rate, shown }) => {
        if (rate && shown) state.zoom.set(name, [...rate, ...shown]);
        else state.zoom.delete(name);
        writeAddress();
      });
    },
    () => live.remove(),
  );
}

if (window.vegaEmbed) {
  const seen = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach(({ target }) => {
      seen.unobserve(target);
      enliven(target);
    }),
    { rootMargin: "400px" },
  );
  document.querySelectorAll("[data-chart]").forEach((drawing) => seen.observe(drawing));
}

// Sort a table by a column: numbers before words, empty cells last.
function sortTable(table, column, way) {
  const heads = [...table.tHead.rows[0].cells], up = way === "up";
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  heads[column].setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
  const order = (a, b) => {
    const [one, two] = [key(a), key(b)];
    if (one === "" || two === "") return (one === "") - (two === "");
    const plain = isNaN(one) || isNaN(two) ? one.localeCompare(two, "en", { numeric: true }) : one - two;
    return up ? plain : -plain;
  };
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const made = button([...head.childNodes], () => {
      const way = head.getAttribute("aria-sort") === "ascending" ? "down" : "up";
      sortTable(table, column, way);
      state.sort.set(table.dataset.sorted, [column, way]);
      writeAddress();
    });
    head.append(made);
  });
}

// The anchor of the Bjontegaard deltas: one body of the table for each.
for (const select of document.querySelectorAll("select[data-anchors]")) {
  const bodies = [...document.getElementById(select.dataset.anchors).tBodies];
  select.addEventListener("change", () => bodies.forEach((body, place) => (body.hidden = place !== Number(select.value))));
  select.closest("[hidden]").hidden = false;
}

function restore() {
  readAddress();
  const stop = [...document.querySelectorAll("input[name=keep]")].find(({ value }) => value === state.keep);
  if (stop) stop.checked = true;
  else state.keep = USUAL;
  for (const table of document.querySelectorAll("table.sortable")) {
    const [column, way] = state.sort.get(table.dataset.sorted) ?? [];
    if (table.tHead.rows[0].cells[column]) sortTable(table, column, way);
  }
  showHidden();
  if (location.hash.includes("=") && state.at) document.getElementById(state.at)?.scrollIntoView();
  for (let inside = document.getElementById(state.at)?.parentElement; inside; inside = inside.parentElement) {
    if (inside.tagName === "DETAILS") inside.open = true;
  }
  writeAddress();
}

window.addEventListener("hashchange", restore);
restore();
