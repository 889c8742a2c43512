// The page of graphs in Chromium: what is drawn, what hands and keys do, what each state looks like. Usage: node graphs.mjs URL FOLDER
import AxeBuilder from "@axe-core/playwright";
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const [url, folder] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: ["--no-sandbox"] });
let passed = 0;

async function test(name, work, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 800 }, timezoneId: "Europe/Berlin", ...options });
  const page = await context.newPage();
  const errors = [];
  page.on("pageerror", (error) => errors.push(error.message));
  try {
    await work(page, context);
    assert.deepEqual(errors, []);
    passed += 1;
    console.log(`ok ${name}`);
  } catch (error) {
    console.error(`not ok ${name}: ${error.stack}`);
    await page.screenshot({ path: `${folder}/failed.png` });
    process.exitCode = 1;
  } finally {
    await context.close();
  }
}

const drawn = (page) => page.evaluate(() => window.tidegate?.drawn() ?? null);
const answer = async (page) => (await drawn(page)).answer;
const state = (page) => page.locator("#state").textContent();

/** Does something, and waits until another answer is drawn. */
async function redrawn(page, work) {
  const before = (await drawn(page))?.at ?? 0;
  await page.waitForTimeout(5); // so that the next one has another time
  await work();
  await page.waitForFunction((before) => (window.tidegate?.drawn()?.at ?? 0) > before, before);
}

const opened = async (page, hash = "") => redrawn(page, () => page.goto(`${url}/graphs${hash}`)).catch(async (error) => {
  throw new Error(`${error.message}; state: ${await state(page)}`);
});

await test("a device's last day is drawn, with its readings in words and as a table", async (page) => {
  await opened(page, "#metric=power");
  const told = await answer(page);
  assert.equal(told.device, "boiler");
  assert.ok(told.columns.length > 50);
  assert.match(await page.locator("#summary").textContent(), /readings, from .* to /);
  assert.equal(await page.locator("#rows tr").count(), told.columns.filter((column) => column.n).length);
  // The line has the colour of the page's accent somewhere.
  const colours = await page.evaluate(() => {
    const { width, height } = document.getElementById("canvas");
    const { data } = document.getElementById("canvas").getContext("2d").getImageData(0, 0, width, height);
    const colours = new Set();
    for (let at = 0; at < data.length; at += 4) colours.add(`${data[at]},${data[at + 1]},${data[at + 2]}`);
    return colours.size;
  });
  assert.ok(colours > 5, `${colours} colours`);
  await page.screenshot({ path: `${folder}/graphs.png` });
});

await test("day, week, month and year are one click each, of coarser tiers where a column is wider than a bucket", async (page) => {
  await opened(page);
  const tiers = {};
  for (const span of ["7d", "31d", "365d", "1d"]) {
    await redrawn(page, () => page.click(`button[data-span="${span}"]`));
    tiers[span] = (await answer(page)).tier;
    assert.equal(await page.getAttribute(`button[data-span="${span}"]`, "aria-pressed"), "true");
  }
  assert.deepEqual(tiers, { "7d": "quarters", "31d": "hours", "365d": "hours", "1d": "quarters" });
});

await test("a part that is dragged over is fetched anew, and a double click shows more", async (page) => {
  await opened(page, "#from=now-31d");
  const before = await answer(page);
  const box = await page.locator("#canvas").boundingBox();
  await redrawn(page, async () => {
    await page.mouse.move(box.x + box.width * 0.6, box.y + 50);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.7, box.y + 60, { steps: 4 });
    await page.mouse.up();
  });
  const zoomed = await answer(page);
  assert.ok(zoomed.to_ms - zoomed.from_ms < (before.to_ms - before.from_ms) / 5);
  assert.ok(zoomed.from_ms > before.from_ms && zoomed.to_ms < before.to_ms);
  assert.ok(zoomed.column_ms <= before.column_ms);
  await redrawn(page, () => page.dblclick("#canvas"));
  const wider = await answer(page);
  assert.ok(wider.to_ms - wider.from_ms > zoomed.to_ms - zoomed.from_ms);
});

await test("keys shift, widen and go back to now", async (page) => {
  await opened(page, "#from=now-7d");
  const before = await answer(page);
  await page.focus("#canvas");
  await redrawn(page, () => page.keyboard.press("ArrowLeft"));
  const earlier = await answer(page);
  assert.ok(earlier.to_ms < before.to_ms);
  await redrawn(page, () => page.keyboard.press("-"));
  const wider = await answer(page);
  assert.ok(wider.to_ms - wider.from_ms > earlier.to_ms - earlier.from_ms);
  await redrawn(page, () => page.keyboard.press("n"));
  assert.ok(Date.now() - (await answer(page)).to_ms < 60_000);
});

await test("a counter has bars by day in the zone, and the period before is drawn beside", async (page) => {
  await opened(page, "#from=now-7d&metric=energy");
  await redrawn(page, () => page.selectOption("#aggregate", "day"));
  const told = await answer(page);
  assert.equal(told.aggregate, "day");
  assert.equal(told.zone, "Europe/Berlin");
  const hours = new Set(told.columns.map((column) => new Date(column.start_ms).toLocaleString("en", { timeZone: "Europe/Berlin", hour: "numeric", hour12: false })));
  assert.deepEqual([...hours].map(Number).map((hour) => hour % 24), [0]);
  assert.ok(told.columns.some((column) => column.increase > 0));
  await redrawn(page, () => page.check("#before"));
  assert.ok((await drawn(page)).before.columns.length >= 7);
});

await test("the address holds what is shown", async (page, context) => {
  await opened(page, "#from=now-31d&metric=energy");
  await redrawn(page, () => page.selectOption("#aggregate", "week"));
  const other = await context.newPage();
  await other.goto(page.url());
  await other.waitForFunction(() => window.tidegate?.drawn());
  assert.deepEqual(await other.evaluate(() => window.tidegate.shown), await page.evaluate(() => window.tidegate.shown));
  assert.equal((await answer(other)).aggregate, "week");
});

await test("a search finds a device by what people call it", async (page) => {
  await opened(page);
  await page.fill("#search", "KITCHEN");
  await page.waitForFunction(() => document.querySelectorAll("#devices button").length === 1);
  await redrawn(page, () => page.click("#devices button"));
  assert.equal((await answer(page)).device, "lamp");
  await page.fill("#search", "no such thing");
  await page.waitForFunction(() => document.querySelector("#devices").textContent.includes("no device"));
});

await test("a gap is a gap: columns without a reading have no value", async (page) => {
  await opened(page, "#from=now-7d&device=lamp&metric=power");
  const { columns } = await answer(page);
  const values = columns.map((column) => column.n > 0 || column.mean !== undefined);
  assert.ok(values.includes(true) && values.includes(false));
});

await test("empty, wrong and stale look different", async (page) => {
  await opened(page, "#from=946684800000&to=946771200000");
  assert.match(await state(page), /no reading in this span/);
  assert.equal(await page.getAttribute("#frame", "class"), "empty");
  await redrawn(page, () => page.click('button[data-span="1d"]'));
  assert.equal(await page.getAttribute("#frame", "class"), "");
  await page.route("**/api/series*", (route) => route.abort());
  await page.click('button[data-span="7d"]');
  await page.waitForFunction(() => document.getElementById("state").className === "stale");
  assert.match(await state(page), /this is what was told/);
  await page.unroute("**/api/series*");
  const other = await page.context().newPage();
  await other.goto(`${url}/graphs#device=boiler&metric=pressure`);
  await other.waitForFunction(() => document.getElementById("state").className === "error");
  assert.match(await state(other), /no metric pressure/);
});

await test("numbers are taken away as CSV and as a picture", async (page) => {
  await opened(page, "#metric=power");
  const [csv] = await Promise.all([page.waitForEvent("download"), page.click("#csv")]);
  assert.equal(csv.suggestedFilename(), "boiler-power.csv");
  const [png] = await Promise.all([page.waitForEvent("download"), page.click("#png")]);
  assert.equal(png.suggestedFilename(), "boiler-power.png");
});

await test("a telephone has no need to scroll sideways", async (page) => {
  await opened(page);
  const { scroll, width } = await page.evaluate(() => ({ scroll: document.documentElement.scrollWidth, width: innerWidth }));
  assert.ok(scroll <= width, `${scroll} of ${width}`);
}, { viewport: { width: 390, height: 800 } });

for (const colorScheme of ["light", "dark"]) {
  await test(`nothing serious is found by axe, ${colorScheme}`, async (page) => {
    await opened(page);
    const { violations } = await new AxeBuilder({ page }).analyze();
    const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
    assert.deepEqual(serious.map(({ id, nodes }) => [id, nodes[0].html]), []);
  }, { colorScheme });
}

await browser.close();
console.log(`${passed} passed, ${process.exitCode ? "some" : 0} failed`);
