// The System log: a page of records, filters, paging, new records as they come, export.
// The document never holds more than one page, however long the log is.

import { get } from "./api.js";
import { byId, element, setText, whileBusy } from "./dom.js";
import { exactTime, text } from "./strings.js";

const SHOWN = 200;
const EXPORT_STEP = 1000;
const LOOKS = { error: "bad", critical: "bad", alert: "bad", emergency: "bad", warning: "warn" };
const FILTERS = ["level", "category", "since", "until", "text"];

let newestId = 0; // of the records shown
let oldestId = 0;
let live = true; // the newest page is shown, so that new records belong on top
let typing = 0;
let asked = 0;

export function setUpLog() {
  byId("log-category").append(...text.categories.map((name) => element("option", { value: name }, name)));
  byId("log-filter").addEventListener("submit", (event) => event.preventDefault());
  for (const name of ["level", "category", "since", "until"]) byId(`log-${name}`).addEventListener("change", showLog);
  byId("log-text").addEventListener("input", askSoon);
  byId("log-newest").addEventListener("click", showLog);
  byId("log-newer").addEventListener("click", () => page({ after: newestId }));
  byId("log-older").addEventListener("click", () => page({ before: oldestId }));
  byId("log-csv").addEventListener("click", () => whileBusy(byId("log-csv"), () => exportAs("csv")));
  byId("log-json").addEventListener("click", () => whileBusy(byId("log-json"), () => exportAs("json")));
}

export const showLog = () => page({});

function askSoon() {
  clearTimeout(typing);
  typing = setTimeout(showLog, 300);
}

function filters() {
  const found = {};
  for (const name of FILTERS) {
    const value = byId(`log-${name}`).value.trim();
    if (value) found[name] = name === "since" || name === "until" ? String(new Date(value).getTime() / 1000) : value;
  }
  return found;
}

/** One page: the newest, the one before an id, or the one after it. */
async function page(where) {
  const turn = ++asked;
  const { events } = await get(`events?${new URLSearchParams({ limit: String(SHOWN), ...filters(), ...where })}`);
  if (turn !== asked) return; // a later question was answered first
  if (where.after !== undefined && events.length < SHOWN) return showLog(); // the newest page, whole
  if (where.before !== undefined && !events.length) return say(text.logOldest);
  live = where.before === undefined && where.after === undefined;
  newestId = events.at(-1)?.id ?? 0;
  oldestId = events[0]?.id ?? 0;
  byId("log-rows").replaceChildren(...events.reverse().map(row));
  byId("log-newer").disabled = live;
  byId("log-older").disabled = events.length < SHOWN && where.after === undefined;
  say(events.length ? "" : text.logNothing);
}

/** A record from the stream. With a filter set, the server is asked again, since only it knows what matches. */
export function addRecord(record) {
  if (!live || record.id <= newestId) return;
  if (Object.keys(filters()).length) return askSoon();
  newestId = record.id;
  const rows = byId("log-rows");
  rows.prepend(row(record));
  while (rows.childElementCount > SHOWN) rows.lastElementChild.remove();
}

export function showLine(connected) {
  setText(byId("log-live"), connected ? text.live : text.notLive);
}

const say = (sentence) => setText(byId("log-result"), sentence);

function row(record) {
  const level = LOOKS[record.level] ? element("span", { class: `badge ${LOOKS[record.level]}` }, record.level) : record.level;
  return element(
    "tr",
    { "data-event": record.event, "data-id": String(record.id) },
    element("td", {}, element("time", { datetime: record.time }, exactTime(record.time))),
    element("td", {}, level),
    element("td", {}, record.category),
    element("td", {}, record.message),
  );
}

// ---- export ---------------------------------------------------------------------------------------------------------

/** Everything that matches, oldest first, a thousand at a time, so that the page stays alive meanwhile. */
async function exportAs(kind) {
  const parts = [kind === "csv" ? "\ufeffid,time,level,category,event,message,fields\r\n" : "[\n"];
  let count = 0;
  for (let after = 0; ; ) {
    const { events } = await get(`events?${new URLSearchParams({ limit: String(EXPORT_STEP), ...filters(), after: String(after) })}`);
    if (events.length) {
      const lines = events.map(kind === "csv" ? csvLine : (record) => JSON.stringify(record));
      parts.push(kind === "csv" ? lines.join("") : (count ? ",\n" : "") + lines.join(",\n"));
      count += events.length;
      after = events.at(-1).id;
      say(text.exporting(count));
    }
    if (events.length < EXPORT_STEP) break;
  }
  if (kind === "json") parts.push("\n]\n");
  save(new Blob(parts, { type: kind === "csv" ? "text/csv" : "application/json" }), `events.${kind}`);
  say(text.exported(count));
}

function csvLine(record) {
  const cells = [record.id, record.time, record.level, record.category, record.event, record.message, JSON.stringify(record.fields)];
  return `${cells.map(cell).join(",")}\r\n`;
}

/** RFC 4180; what a spreadsheet would compute is marked as text. */
function cell(value) {
  const plain = /^[=+\-@\t\r]/.test(String(value)) ? `'${value}` : String(value);
  return `"${plain.replaceAll('"', '""')}"`;
}

function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
