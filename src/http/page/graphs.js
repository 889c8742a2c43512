"use strict";
// Graphs of roll-ups from /api/series. The address behind # holds what is shown. Texts only ever go in as text.

const DAY = 86400000;
const element = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en", { maximumSignificantDigits: 6 });
const shown = { device: "", metric: "", from: "now-1d", to: "now", aggregate: "auto", zone: zoneHere(), before: false, band: true };
let drawn = null; // what was answered last, and where it lies on the canvas
let asked = 0;
let nextDevices = null;

function zoneHere() {
  return Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
}

function add(parent, tag, text, className) {
  const child = document.createElement(tag);
  if (text !== undefined) child.textContent = text;
  if (className) child.className = className;
  parent.append(child);
  return child;
}

// --- what is asked for

async function ask(path) {
  const token = sessionStorage.getItem("token");
  const response = await fetch(path, { headers: token ? { authorization: `Bearer ${token}` } : {} });
  if (response.status === 401) {
    element("login").hidden = false;
    element("token").focus();
  }
  if (!response.ok) {
    const told = await response.json().catch(() => ({}));
    throw new Error(told.error || `the server answered ${response.status}`);
  }
  return response;
}

const withParameters = (path, parameters) =>
  `${path}?${Object.entries(parameters).filter(([, value]) => value).map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&")}`;

function seriesPath(span, more) {
  const points = Math.max(100, Math.min(2000, Math.round(element("canvas").clientWidth)));
  const { device, metric, aggregate, zone } = shown;
  return withParameters("api/series", { device, metric, from: span.from, to: span.to, points, aggregate, zone, ...more });
}

async function loadDevices(isMore) {
  const list = element("devices");
  try {
    const after = isMore ? nextDevices : "";
    const answer = await (await ask(withParameters("api/devices", { search: element("search").value, after }))).json();
    if (!isMore) list.replaceChildren();
    for (const device of answer.devices) showDevice(list, device);
    if (!list.children.length) add(list, "li", "no device is called so");
    nextDevices = answer.next;
    element("more").hidden = !answer.next;
    if (!shown.device && answer.devices.length) choose(answer.devices[0]);
  } catch (error) {
    list.replaceChildren();
    add(list, "li", error.message);
  }
}

function showDevice(list, device) {
  const button = add(add(list, "li"), "button", device.name || device.device);
  button.type = "button";
  button.dataset.device = device.device;
  const where = [device.room, device.home].filter(Boolean).join(", ");
  const last = device.last_reading_ms ? `last told ${ago(device.last_reading_ms)}` : "nothing told yet";
  add(button, "small", [where, last].filter(Boolean).join(" – "));
  button.setAttribute("aria-pressed", device.device === shown.device);
  button.addEventListener("click", () => choose(device));
  if (device.device === shown.device) showMetrics(device);
}

function ago(at) {
  const seconds = Math.max(0, (Date.now() - at) / 1000);
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= length) return `${Math.floor(seconds / length)} ${unit} ago`;
  }
  return "just now";
}

function choose(device) {
  shown.device = device.device;
  showMetrics(device);
  for (const button of document.querySelectorAll("#devices button")) {
    button.setAttribute("aria-pressed", button.dataset.device === shown.device);
  }
  change();
}

function showMetrics(device) {
  const metrics = Object.keys(device.metrics);
  const select = element("metric");
  select.replaceChildren(...metrics.map((metric) => new Option(metric, metric)));
  if (!metrics.includes(shown.metric)) shown.metric = metrics[0] || "";
  select.value = shown.metric;
  element("title").textContent = device.name || device.device;
}

// --- the span

/** Both ends in milliseconds. */
function span() {
  const at = (text) => {
    const back = /^now(?:-(\d+)d)?$/.exec(text);
    return back ? Date.now() - DAY * Number(back[1] || 0) : Number(text);
  };
  return [at(shown.from), at(shown.to)];
}

function setSpan(from, to) {
  const most = Date.now();
  const length = Math.max(3600000, to - from);
  shown.to = String(Math.round(Math.min(to, most)));
  shown.from = String(Math.round(Math.min(to, most) - length));
  change();
}

function shift(part) {
  const [from, to] = span();
  setSpan(from + part * (to - from), to + part * (to - from));
}

function wider() {
  const [from, to] = span();
  setSpan(from - (to - from) / 2, to + (to - from) / 2);
}

// --- loading

function say(text, kind) {
  const place = element("state");
  place.textContent = text;
  place.className = kind || "";
  element("frame").className = kind || "";
}

function change() {
  const { device, metric, from, to, aggregate, zone, before, band } = shown;
  location.replace(`#${new URLSearchParams({ device, metric, from, to, aggregate, zone, before, band })}`);
  for (const button of document.querySelectorAll("#spans button")) {
    button.setAttribute("aria-pressed", to === "now" && from === `now-${button.dataset.span}`);
  }
  load();
}

async function load() {
  if (!shown.device || !shown.metric) {
    say(shown.device ? "This device has told no metric yet." : "", "empty");
    return;
  }
  const turn = ++asked;
  const [from, to] = span();
  say(drawn ? "loading…" : "loading the first graph…", "loading");
  try {
    const answers = [ask(seriesPath(shown))];
    // The period before is drawn over this one.
    if (shown.before) answers.push(ask(seriesPath({ from: Math.round(2 * from - to), to: Math.round(from) })));
    const [answer, before] = await Promise.all((await Promise.all(answers)).map((response) => response.json()));
    if (turn !== asked) return; // another one was asked for meanwhile
    element("login").hidden = true;
    drawn = { answer, before, at: Date.now() };
    describe(answer);
    draw();
  } catch (error) {
    if (turn !== asked) return;
    say(drawn ? `${error.message} – this is what was told ${ago(drawn.at)}` : error.message, drawn ? "stale" : "error");
  }
}

function describe(answer) {
  const told = answer.columns.filter((column) => column.n);
  const last = answer.last_reading_ms ? `last reading told ${ago(answer.last_reading_ms)}` : "no reading in this span";
  const tier = `${told.length} columns of ${answer.tier}`;
  const open = answer.open?.error ? `without what is not told yet: ${answer.open.error}` : "";
  say([last, tier, answer.reason, open].filter(Boolean).join(" – "), told.length ? "" : "empty");
  const smallest = Math.min(...told.map((column) => column.min));
  const largest = Math.max(...told.map((column) => column.max));
  const rise = told.some((column) => column.increase !== undefined)
    ? `, rise ${number.format(told.reduce((sum, column) => sum + (column.increase || 0), 0))}` : "";
  element("summary").textContent = told.length
    ? `${told.reduce((sum, column) => sum + column.n, 0)} readings, from ${number.format(smallest)} to ${number.format(largest)}${rise}.` : "";
  element("canvas").setAttribute("aria-label",
    `${shown.metric} of ${shown.device}: ${element("summary").textContent || "no reading in this span"}`);
  const rows = element("rows");
  rows.replaceChildren();
  for (const column of told) {
    const row = add(rows, "tr");
    add(row, "th", date(column.start_ms)).scope = "row";
    for (const value of [column.n, column.min, valueOf(column), column.max]) {
      add(row, "td", value === undefined || value === null ? "–" : number.format(value), "n");
    }
  }
}

/** What a column is drawn at: a counter's rise, a gauge's mean in time, the readings' mean otherwise. */
function valueOf(column) {
  if (column.increase !== undefined) return column.increase;
  if (column.mean !== undefined) return column.mean;
  return column.n ? column.sum / column.n : undefined;
}

function date(at, isBrief) {
  const [from, to] = span();
  const options = { timeZone: shown.zone, hour12: false };
  if (isBrief && to - from > 3 * DAY) Object.assign(options, { month: "short", day: "numeric" });
  else if (isBrief) Object.assign(options, { hour: "2-digit", minute: "2-digit" });
  else Object.assign(options, { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
  return new Intl.DateTimeFormat("en", options).format(at);
}

// --- drawing

/** Milliseconds by which the zone's clocks are ahead of UTC at a time. */
function ahead(at) {
  const options = { timeZone: shown.zone, hourCycle: "h23", year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric" };
  const parts = Object.fromEntries(new Intl.DateTimeFormat("en", options).formatToParts(at).map(({ type, value }) => [type, Number(value)]));
  return Date.UTC(parts.year, parts.month - 1, parts.day, parts.hour, parts.minute) - Math.floor(at / 60000) * 60000;
}

/** Round times of the zone's clocks, at most so many. */
function moments([from, to], most) {
  const hours = [1 / 12, 0.25, 0.5, 1, 2, 3, 6, 12, 24, 48, 168, 336, 730, 1461, 2922, 8766].map((hours) => hours * 3600000);
  const step = hours.find((step) => (to - from) / step <= most) ?? (to - from);
  const found = [];
  for (let local = Math.ceil((from + ahead(from)) / step) * step; ; local += step) {
    const at = local - ahead(local - ahead(local));
    if (at > to) return found;
    found.push(at);
  }
}

function steps(least, most, count) {
  const rough = (most - least) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((part) => part * power).find((size) => size >= rough);
  const marks = [];
  for (let mark = Math.ceil(least / step) * step; mark <= most + step / 1e6; mark += step) marks.push(mark);
  return marks;
}

function draw() {
  const canvas = element("canvas");
  const scale = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = width * scale;
  canvas.height = height * scale;
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  context.fillStyle = colour("--card");
  context.fillRect(0, 0, width, height);
  if (!drawn) return;
  const { answer, before } = drawn;
  const isBars = answer.columns.some((column) => column.increase !== undefined) || Boolean(answer.aggregate);
  const columns = answer.columns;
  const edges = columns.length ? [columns[0].start_ms, columns[columns.length - 1].end_ms] : [answer.from_ms, answer.to_ms];
  const values = columns.flatMap((column) => {
    const value = valueOf(column);
    const both = shown.band && !isBars && column.n ? [column.min, column.max] : [];
    return value === undefined ? both : [value, ...both];
  }).concat(before ? before.columns.map(valueOf).filter((value) => value !== undefined) : []);
  let [least, most] = values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
  if (isBars) least = Math.min(0, least);
  if (least === most) [least, most] = [least - 1, most + 1];
  const [left, right, top, bottom] = [56, width - 10, 10, height - 26];
  const x = (at) => left + (right - left) * (at - edges[0]) / (edges[1] - edges[0]);
  const y = (value) => bottom - (bottom - top) * (value - least) / (most - least);
  drawn.place = { left, right, edges };

  context.font = "12px system-ui, sans-serif";
  context.lineWidth = 1;
  context.strokeStyle = colour("--line");
  context.fillStyle = colour("--soft");
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const mark of steps(least, most, 5)) {
    context.beginPath();
    context.moveTo(left, y(mark));
    context.lineTo(right, y(mark));
    context.stroke();
    context.fillText(number.format(mark), left - 6, y(mark));
  }
  context.textAlign = "center";
  context.textBaseline = "top";
  for (const at of moments(edges, Math.floor((right - left) / 80))) {
    const text = date(at, true);
    const half = context.measureText(text).width / 2;
    context.fillText(text, Math.max(left - 20 + half, Math.min(right - half, x(at))), bottom + 8);
    context.fillRect(x(at), bottom, 1, 5);
  }

  if (isBars) {
    context.fillStyle = colour("--accent");
    for (const column of columns) {
      const value = valueOf(column);
      if (value === undefined) continue;
      const [from, to] = [x(column.start_ms), x(column.end_ms)];
      context.fillRect(from, y(Math.max(value, 0)), Math.max(1, to - from - 1), Math.abs(y(value) - y(0)));
    }
  } else {
    if (shown.band) {
      context.fillStyle = colour("--accent");
      context.globalAlpha = 0.2;
      for (const column of columns) {
        if (!column.n) continue;
        const [from, to] = [x(column.start_ms), x(column.end_ms)];
        context.fillRect(from, y(column.max), to - from + 0.5, Math.max(1, y(column.min) - y(column.max)));
      }
      context.globalAlpha = 1;
    }
    line(context, columns, x, y, colour("--accent"), []);
  }
  if (answer.open?.from_ms >= edges[0]) {
    // What lies behind it may still change.
    context.fillStyle = colour("--soft");
    context.globalAlpha = 0.12;
    context.fillRect(x(answer.open.from_ms), top, right - x(answer.open.from_ms), bottom - top);
    context.globalAlpha = 1;
  }
  if (before) {
    const moved = edges[0] - (before.columns.length ? before.columns[0].start_ms : edges[0]);
    line(context, before.columns, (at) => x(at + moved), y, colour("--soft"), [4, 3]);
  }
}

/** Steps from column to column; a column without a value is a gap. */
function line(context, columns, x, y, stroke, dash) {
  context.strokeStyle = stroke;
  context.lineWidth = 1.5;
  context.setLineDash(dash);
  context.beginPath();
  let isDrawn = false;
  for (const column of columns) {
    const value = valueOf(column);
    if (value === undefined || value === null) {
      isDrawn = false;
      continue;
    }
    const [from, to, at] = [x(column.start_ms), x(column.end_ms), y(value)];
    if (isDrawn) context.lineTo(from, at);
    else context.moveTo(from, at);
    context.lineTo(to, at);
    isDrawn = true;
  }
  context.stroke();
  context.setLineDash([]);
}

/** The time under a place of the canvas. */
function timeAt(event) {
  if (!drawn || !drawn.place) return null;
  const { left, right, edges } = drawn.place;
  const part = (event.clientX - element("canvas").getBoundingClientRect().left - left) / (right - left);
  return edges[0] + Math.max(0, Math.min(1, part)) * (edges[1] - edges[0]);
}

function read(at) {
  const column = at === null ? null : drawn.answer.columns.find((column) => column.start_ms <= at && at < column.end_ms);
  const value = column ? valueOf(column) : undefined;
  element("reading").textContent = !column ? "" : value === undefined ? `${date(column.start_ms)}: no reading`
    : `${date(column.start_ms)}: ${number.format(value)}` +
      (column.n ? ` (${column.n} readings, from ${number.format(column.min)} to ${number.format(column.max)})` : " (holds)");
}

// --- hands

let dragFrom = null;
const canvas = element("canvas");
canvas.addEventListener("pointerdown", (event) => {
  dragFrom = { at: timeAt(event), x: event.clientX };
});
canvas.addEventListener("pointermove", (event) => {
  read(timeAt(event));
  if (!dragFrom) return;
  const box = canvas.getBoundingClientRect();
  const drag = element("drag");
  drag.hidden = false;
  drag.style.left = `${Math.min(dragFrom.x, event.clientX) - box.left}px`;
  drag.style.width = `${Math.abs(event.clientX - dragFrom.x)}px`;
});
window.addEventListener("pointerup", (event) => {
  const from = dragFrom;
  dragFrom = null;
  element("drag").hidden = true;
  if (!from || from.at === null || Math.abs(event.clientX - from.x) < 6) return;
  const ends = [from.at, timeAt(event)].sort((one, other) => one - other);
  setSpan(ends[0], ends[1]);
});
canvas.addEventListener("pointerleave", () => read(null));
canvas.addEventListener("dblclick", wider);
canvas.addEventListener("keydown", (event) => {
  const does = { ArrowLeft: () => shift(-0.5), ArrowRight: () => shift(0.5), "-": wider, n: upToNow, "+": () => {
    const [from, to] = span();
    setSpan(from + (to - from) / 4, to - (to - from) / 4);
  } }[event.key];
  if (!does) return;
  event.preventDefault();
  does();
});

function upToNow() {
  const [from, to] = span();
  shown.from = `now-${Math.max(1, Math.round((to - from) / DAY))}d`;
  shown.to = "now";
  change();
}

element("earlier").addEventListener("click", () => shift(-1));
element("later").addEventListener("click", () => shift(1));
element("wider").addEventListener("click", wider);
element("now").addEventListener("click", upToNow);
for (const button of document.querySelectorAll("#spans button")) {
  button.addEventListener("click", () => {
    shown.from = `now-${button.dataset.span}`;
    shown.to = "now";
    change();
  });
}
for (const id of ["metric", "aggregate", "zone"]) {
  element(id).addEventListener("change", () => {
    shown[id] = element(id).value;
    change();
  });
}
for (const id of ["before", "band"]) {
  element(id).addEventListener("change", () => {
    shown[id] = element(id).checked;
    change();
  });
}
let typing = 0;
element("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => loadDevices(false), 200);
});
element("more").addEventListener("click", () => loadDevices(true));
element("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", element("token").value.trim());
  element("token").value = "";
  element("login").hidden = true;
  loadDevices(false).then(load);
});

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
element("csv").addEventListener("click", async () => {
  try {
    save(await (await ask(seriesPath(shown, { format: "csv" }))).blob(), `${shown.device}-${shown.metric}.csv`);
  } catch (error) {
    say(error.message, "error");
  }
});
element("png").addEventListener("click", () => canvas.toBlob((blob) => blob && save(blob, `${shown.device}-${shown.metric}.png`)));

// --- the beginning

function fromAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const name of Object.keys(shown)) {
    if (!given.has(name)) continue;
    shown[name] = typeof shown[name] === "boolean" ? given.get(name) === "true" : given.get(name);
  }
  for (const id of ["aggregate", "zone"]) element(id).value = shown[id];
  for (const id of ["before", "band"]) element(id).checked = shown[id];
  element("title").textContent = shown.device || "Choose a device";
  if (shown.metric) element("metric").replaceChildren(new Option(shown.metric, shown.metric));
}
window.addEventListener("resize", draw);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
fromAddress();
fetch("status").then((response) => response.json()).then((status) => {
  element("pipeline").textContent = status.pipeline;
}).catch(() => {});
loadDevices(false);
if (shown.device && shown.metric) change();
setInterval(() => {
  if (shown.to === "now" && document.visibilityState === "visible") load();
}, 30000);
// For tests: what is drawn.
window.tidegate = { shown, drawn: () => drawn };
