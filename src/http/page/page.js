"use strict";
// Live numbers from /events. Texts only ever go in as text, so nothing that comes from a topic is taken for markup.

const POINTS = 120;
const rates = [];
const element = (id) => document.getElementById(id);
const number = new Intl.NumberFormat("en");
const say = (id, text) => { const place = element(id); if (place.textContent !== text) place.textContent = text; };

function add(parent, tag, text, className) {
  const child = document.createElement(tag);
  if (text !== undefined) child.textContent = text;
  if (className) child.className = className;
  parent.append(child);
  return child;
}

function show(report) {
  say("pipeline", report.pipeline);
  say("place", report.place);
  say("version", report.version);
  document.title = `${report.halts.length ? "(!) " : ""}Tidegate ${report.pipeline}`;
  // The tiles are those of the table of metrics.
  for (const { id, dataset } of document.querySelectorAll("dd[data-suffix]")) {
    say(id, report[id] === null ? "–" : number.format(report[id]) + dataset.suffix);
  }
  const recovery = report.last_recovery;
  say("recovery", recovery ? `Crash ${recovery.number}: recovered in ${number.format(recovery.took_ms)} ms, ` +
    `${number.format(recovery.published)} notices published from the outbox, ` +
    `${number.format(recovery.repeated)} algorithm runs repeated.` : "");
  const state = report.halts.length ? `${report.halts.length} halted`
    : report.is_ready ? (report.tasks.length ? "running" : "running, no partition assigned") : "taking partitions over";
  say("state", state);
  element("state").className = report.halts.length ? "bad" : "";
  showCurve(report.records_per_s);
  showTasks(report.tasks);
  showStores(report.tasks, report.restores);
  showLetters(report.dead_letter_codes);
  showPartitioning(report.declared, report.undeclared, report.needless_shuffles);
  showHalts(report.halts);
}

function showCurve(rate) {
  rates.push(rate);
  if (rates.length > POINTS) rates.shift();
  const top = Math.max(1, ...rates);
  const points = rates.map((value, index) => `${(index + POINTS - rates.length) * 2},${38 - 36 * value / top}`);
  element("line").setAttribute("points", points.join(" "));
  element("curve").setAttribute("aria-label", `records a second, now ${rate}, at most ${top} in the last 2 minutes`);
}

function showTasks(tasks) {
  const body = document.createElement("tbody");
  body.id = "tasks";
  for (const task of tasks) {
    for (const input of task.inputs) {
      const row = add(body, "tr");
      add(row, "th", input.source).scope = "row";
      add(row, "td", task.state);
      // Before the takeover has read it, the committed offset is unknown.
      const committed = input.committed_offset < 0 ? null : input.committed_offset;
      add(row, "td", number.format(input.next_offset), "n");
      add(row, "td", committed === null ? "–" : number.format(committed), "n");
      add(row, "td", committed === null ? "–" : number.format(input.next_offset - committed), "n");
    }
  }
  if (!body.children.length) add(add(body, "tr"), "td", "none").colSpan = 5;
  element("tasks").replaceWith(body);
}

function showStores(tasks, restores) {
  const body = document.createElement("tbody");
  body.id = "stores";
  const row = (store, partition, cells) => {
    const line = add(body, "tr");
    add(line, "th", `${store}-${partition}`).scope = "row";
    for (const [text, className] of cells) add(line, "td", text, className);
  };
  for (const task of tasks) {
    for (const { store, keys, bytes } of task.stores) {
      row(store, task.partition, [[number.format(keys), "n"], [number.format(bytes), "n"], ["whole"]]);
    }
  }
  for (const { store, partition, records, bytes, share, seconds_left: left } of restores) {
    const toGo = left === null ? "" : `, ${number.format(Math.ceil(left))} s to go`;
    row(store, partition, [["–", "n"], ["–", "n"],
      [`${Math.floor(100 * share)} %: ${number.format(records)} records, ${number.format(bytes)} bytes${toGo}`]]);
  }
  element("keyed").hidden = !body.children.length;
  element("stores").replaceWith(body);
}

function showLetters(codes) {
  const list = element("letter-list");
  list.replaceChildren();
  for (const { source, code, count, latest_source: at, latest_offset: offset, latest_message: message } of codes) {
    add(list, "li", `${source}: ${number.format(count)} with the code ${code}, the latest for ${at} at offset ${offset}: ${message}`);
  }
  element("letters").hidden = !list.children.length;
}

function showPartitioning(declared, undeclared, shuffles) {
  const list = element("partitioning-list");
  list.replaceChildren();
  for (const { source, checked, bytes_not_shuffled: bytes, violations } of declared) {
    add(list, "li", `${source}: ${number.format(checked)} records held against the declaration, ` +
      `${number.format(bytes)} bytes not shuffled`);
    for (const found of violations) {
      add(list, "li", `${found.source}: ${number.format(found.count)} records belong elsewhere, first offset ` +
        `${found.first_offset} into partition ${found.expected_partition}`, "bad");
    }
  }
  for (const { source, assumed, checked, elsewhere } of undeclared.filter((found) => found.elsewhere)) {
    add(list, "li", `${source}: ${number.format(elsewhere)} of ${number.format(checked)} keys do not lie where ${assumed} ` +
      "puts them: a join misses them", "bad");
  }
  for (const { source, sampled } of shuffles) {
    add(list, "li", `${source}: a shuffle to remove. All of ${number.format(sampled)} records looked at lie already where ` +
      "key_by sends them: use declared() in its place");
  }
  element("sources").hidden = !list.children.length;
}

let shownHalts = "";
function showHalts(halts) {
  const key = JSON.stringify(halts);
  if (key === shownHalts) return; // or a screen reader would read them out every second
  shownHalts = key;
  element("halts").hidden = halts.length === 0;
  const list = element("halt-list");
  list.replaceChildren();
  for (const halt of halts) {
    const card = add(list, "div", undefined, "halt");
    add(card, "h3", `${halt.source}: ${halt.sentence}`);
    const value = (offset) => offset === null ? "unknown" : number.format(offset);
    add(card, "p", `Next offset in the database ${value(halt.next_offset)}, committed offset in Kafka ${value(halt.committed_offset)}. ${halt.detail}`);
    add(card, "p", `Most likely: ${halt.cause}. Choose one:`);
    const choices = add(card, "ul");
    for (const choice of halt.choices) add(choices, "li", choice);
  }
}

// Numbers come once a second. A stream that ends in anything but 200 (a proxy's 502 while the service starts) is closed for good
// by the browser, and one whose packets just stop says nothing at all: both are opened anew from here.
const QUIET_MS = 5000;
const AGAIN_MS = 2000;
let events;
let heardAt = Date.now();
let openedAt = 0;

function listen() {
  if (events) events.close();
  openedAt = Date.now();
  events = new EventSource("events");
  events.onmessage = (event) => {
    heardAt = Date.now();
    document.body.classList.remove("stale");
    try {
      show(JSON.parse(event.data));
    } catch (error) {
      lost(`this page cannot show what the service tells, most likely since it is of another release: reload it (${error})`);
    }
  };
}

function lost(text) {
  say("state", text);
  element("state").className = "bad";
  document.body.classList.add("stale");
}

function watch() {
  const now = Date.now();
  const isClosed = events.readyState === EventSource.CLOSED;
  if (isClosed || now - heardAt > QUIET_MS) {
    lost(`no connection; the numbers are ${number.format(Math.round((now - heardAt) / 1000))} s old; trying again`);
    if (now - openedAt >= (isClosed ? AGAIN_MS : QUIET_MS)) listen();
  }
}

listen();
setInterval(watch, 1000);
