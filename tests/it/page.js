// Runs src/http/page/page.js over a document, a clock and a stream that this file moves by hand. Called by tests/it/page.rs with the
// script's path.
"use strict";
const fs = require("node:fs");
const vm = require("node:vm");
const assert = require("node:assert");

let now = 1_000_000;
const elements = new Map();
const classes = new Set();
const streams = [];
let tick;

function made() {
  const classList = { add: (name) => classes.add(name), remove: (name) => classes.delete(name) };
  const place = { textContent: "", className: "", hidden: false, children: [], dataset: {}, classList };
  place.append = (child) => place.children.push(child);
  place.replaceChildren = () => { place.children = []; };
  place.replaceWith = (other) => elements.set(other.id, other);
  place.setAttribute = () => {};
  return place;
}
const element = (id) => { if (!elements.has(id)) elements.set(id, made()); return elements.get(id); };

class EventSource {
  static CLOSED = 2;
  constructor(path) { this.path = path; this.readyState = 0; streams.push(this); }
  close() { this.readyState = EventSource.CLOSED; }
}

const report = { pipeline: "scoring", place: "here", version: "1", is_ready: true, records: 3, records_per_s: 1,
  tasks: [{ sub_topology: 0, partition: 0, state: "running", stores: [],
    inputs: [{ source: "readings-0", next_offset: 5, committed_offset: 4 }] }],
  halts: [], restores: [], dead_letter_codes: [], declared: [], undeclared: [], needless_shuffles: [] };
const context = vm.createContext({
  document: { getElementById: element, createElement: made, querySelectorAll: () => [], body: made() },
  EventSource, Intl, Date: { now: () => now }, setInterval: (watch) => { tick = watch; }, Math, JSON,
});
vm.runInContext(fs.readFileSync(process.argv[2], "utf8"), context);

const state = () => element("state").textContent;
const wait = (seconds) => { for (let second = 0; second < seconds; second += 1) { now += 1000; tick(); } };
const tell = (numbers) => streams.at(-1).onmessage({ data: JSON.stringify(numbers) });

tell(report);
assert.equal(state(), "running");
assert.ok(!classes.has("stale") && streams[0].path === "events");

wait(4);
assert.equal(state(), "running", "a late number is no trouble yet");
wait(2);
assert.match(state(), /no connection; the numbers are 6 s old/);
assert.ok(classes.has("stale") && streams.length === 2, "packets just stopped: opened anew");
assert.equal(streams[0].readyState, 2);
tell(report);
assert.ok(state() === "running" && !classes.has("stale"));

streams.at(-1).readyState = 2; // answered with 502: the browser never tries again
wait(3);
assert.equal(streams.length, 3);
assert.match(state(), /no connection/);
tell({ ...report, dead_letter_codes: [{ source: "readings", code: "bad-json", count: 7, latest_source: "readings-3",
  latest_offset: 9, latest_message: "<b>" }] });
assert.equal(state(), "running");
assert.match(element("letter-list").children[0].textContent, /readings: 7 with the code bad-json.*<b>/);

tell({ another: "release" });
assert.match(state(), /reload it/);
assert.ok(classes.has("stale"));
