// Calls to notifyd's API. Every failure becomes an ApiError with a sentence for people.

import { text } from "./strings.js";

const BASE = "/api/v1/";

export class ApiError extends Error {
  /** status: HTTP status, 0 when nothing answered. problem: the RFC 9457 document, {} when there was none. */
  constructor(status, problem) {
    super(problem.detail || problem.title || text.httpFailure(status));
    this.status = status;
    this.problem = problem;
  }

  get fieldErrors() {
    return this.problem.errors ?? [];
  }
}

let onLoggedOut = () => {};

/** Names the function to call when the gateway asks for a login. */
export function whenLoggedOut(handler) {
  onLoggedOut = handler;
}

export async function call(method, path, body, headers = {}) {
  const options = { method, headers: { Accept: "application/json", ...headers }, credentials: "same-origin", cache: "no-store" };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  const response = await reach(path, options);
  const content = await readJson(response);
  if (response.ok) return { content, headers: response.headers };
  if (response.status === 401 && path !== "session") onLoggedOut();
  throw new ApiError(response.status, content ?? {});
}

export const get = async (path) => (await call("GET", path)).content;
export const post = async (path, body) => (await call("POST", path, body)).content;

async function reach(path, options) {
  try {
    return await fetch(BASE + path, options);
  } catch {
    throw new ApiError(0, {});
  }
}

async function readJson(response) {
  if (!(response.headers.get("Content-Type") ?? "").includes("json")) return null;
  try {
    return await response.json();
  } catch {
    return null;
  }
}

// ---- the event stream -----------------------------------------------------------------------------------------------

const RETRY_MS = [1000, 2000, 5000, 10000];

/**
 * Follows the System log for ever: `onRecord(record)` for each record, `onState(connected)` when the line changes.
 * Read with fetch, since EventSource hides a 401 and wants every event name listed. Returns a function that stops it.
 */
export function followEvents(onRecord, onState) {
  const stop = new AbortController();
  keepFollowing(onRecord, onState, stop.signal);
  return () => stop.abort();
}

async function keepFollowing(onRecord, onState, signal) {
  let lastId = "";
  let failures = 0;
  while (!signal.aborted) {
    try {
      await readStream(lastId, signal, () => { failures = 0; onState(true); }, (record) => {
        lastId = String(record.id);
        onRecord(record);
      });
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) return onLoggedOut();
    }
    if (signal.aborted) return;
    onState(false);
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS[Math.min(failures++, RETRY_MS.length - 1)]));
  }
}

async function readStream(lastId, signal, onOpen, onRecord) {
  const headers = { Accept: "text/event-stream", ...(lastId && { "Last-Event-ID": lastId }) };
  const response = await fetch(BASE + "events", { headers, signal, credentials: "same-origin", cache: "no-store" });
  if (!response.ok) throw new ApiError(response.status, {});
  onOpen();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (pending + value).replaceAll("\r\n", "\n").split("\n\n");
    pending = blocks.pop();
    blocks.map(dataOf).filter(Boolean).forEach((data) => onRecord(JSON.parse(data)));
  }
}

function dataOf(block) {
  return block
    .split("\n")
    .filter((line) => line.startsWith("data:"))
    .map((line) => line.slice(5).trimStart())
    .join("\n");
}
