// The System log: the latest records, and new ones as they come.

import { get } from "./api.js";
import { byId, element, setText } from "./dom.js";
import { exactTime, text } from "./strings.js";

const SHOWN = 300;
const LOOKS = { error: "bad", critical: "bad", alert: "bad", emergency: "bad", warning: "warn" };

let newestId = 0;
let typing = 0;

export function setUpLog() {
  byId("log-filter").addEventListener("submit", (event) => event.preventDefault());
  byId("log-level").addEventListener("change", showLog);
  byId("log-text").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(showLog, 300);
  });
}

export async function showLog() {
  const filter = new URLSearchParams({ limit: String(SHOWN) });
  if (byId("log-level").value) filter.set("level", byId("log-level").value);
  if (byId("log-text").value.trim()) filter.set("text", byId("log-text").value.trim());
  const { events } = await get(`events?${filter}`);
  newestId = Math.max(0, ...events.map((record) => record.id));
  byId("log-rows").replaceChildren(...events.sort((a, b) => b.id - a.id).map(row));
}

/** A record from the stream. With a filter set, the server is asked again, since only it knows what matches. */
export function addRecord(record) {
  if (record.id <= newestId) return;
  if (byId("log-level").value || byId("log-text").value.trim()) {
    clearTimeout(typing);
    typing = setTimeout(showLog, 300);
    return;
  }
  newestId = record.id;
  const rows = byId("log-rows");
  rows.prepend(row(record));
  while (rows.childElementCount > SHOWN) rows.lastElementChild.remove();
}

export function showLine(connected) {
  setText(byId("log-live"), connected ? text.live : text.notLive);
}

function row(record) {
  const level = LOOKS[record.level] ? element("span", { class: `badge ${LOOKS[record.level]}` }, record.level) : record.level;
  return element(
    "tr",
    { "data-event": record.event },
    element("td", {}, element("time", { datetime: record.time }, exactTime(record.time))),
    element("td", {}, level),
    element("td", {}, record.category),
    element("td", {}, record.message),
  );
}
