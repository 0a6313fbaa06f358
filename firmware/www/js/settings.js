// The Mail Server form: fill, edit, Apply.

import { ApiError, call } from "./api.js";
import { byId, element, setText, show, whileBusy } from "./dom.js";
import { text } from "./strings.js";

const FIELDS = ["server", "port", "security", "auth", "cloud", "sender", "username", "client_id", "tenant_id", "secret_expires_on"];
const SECRETS = ["client_secret", "password"];
const PASTED = ["server", "port", "sender", "username", "client_id", "tenant_id", "client_secret"];
// Blanks that come along when an ID is copied from a portal or a mail: spaces of all widths, BOM, zero-width marks.
const BLANKS = /^[\s\u200b-\u200f\u2060\ufeff]+|[\s\u200b-\u200f\u2060\ufeff]+$/g;

let form = null;
let applied = null; // what GET answered last
let etag = "";
let onChange = () => {};
let onTaken = () => {};

/** Sets the form up; `changed()` is called after each edit and each Apply, `taken()` after each Apply that succeeded. */
export function setUpSettings(changed, taken) {
  onChange = changed;
  onTaken = taken;
  form = byId("settings");
  form.addEventListener("input", edited);
  form.addEventListener("change", edited);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    whileBusy(byId("apply"), apply);
  });
  form.cloud.addEventListener("change", followCloud);
  byId("discard").addEventListener("click", discard);
  for (const name of PASTED) form[name].addEventListener("change", () => trim(form[name]));
  window.addEventListener("beforeunload", (event) => {
    if (isDirty()) event.preventDefault();
  });
}

/** Reads the applied settings into the form; edits made meanwhile stay (Apply will then say that they are outdated). */
export async function loadSettings() {
  const answer = await call("GET", "settings");
  if (!isDirty()) take(answer);
}

export const appliedSettings = () => applied;

/** Forgets the edits, so that the browser does not ask before the page is left. */
export function dropEdits() {
  applied = null;
}

/** True while the form differs from what is applied. */
export function isDirty() {
  if (!applied) return false;
  return FIELDS.some((name) => form[name].value.trim() !== shown(name)) || SECRETS.some((name) => form[name].value !== "");
}

function take({ content, headers }) {
  applied = content;
  etag = headers.get("ETag") ?? "";
  fillClouds(content);
  for (const name of FIELDS) form[name].value = shown(name);
  for (const name of SECRETS) form[name].value = "";
  form.client_secret.placeholder = content.client_secret?.set ? text.secretStored : "";
  form.password.placeholder = content.password?.set ? text.secretStored : "";
  show(byId("client_secret-state"), Boolean(content.client_secret?.set));
  setText(byId("password-hint"), content.password?.set ? text.passwordStored : text.passwordMissing);
  clearErrors();
  edited();
}

/** What a field shows for the applied settings; before the first Apply, what this page is for: Microsoft 365. */
function shown(name) {
  if (applied.applied) return String(applied[name] ?? "");
  const cloud = applied.clouds?.find((each) => each.name === applied.cloud);
  const suggested = { auth: "oauth2", security: "starttls", server: cloud?.smtp_host, port: cloud?.smtp_port };
  return String(suggested[name] ?? applied[name] ?? "");
}

function fillClouds(settings) {
  const clouds = settings.clouds ?? [];
  form.cloud.replaceChildren(
    ...clouds.map((cloud) => element("option", { value: cloud.name }, text.cloudTitles[cloud.name] ?? (cloud.title || cloud.name))),
  );
}

/** A newly chosen cloud brings its own mail server, unless one was typed that belongs to no cloud. */
function followCloud() {
  const clouds = applied.clouds ?? [];
  const chosen = clouds.find((cloud) => cloud.name === form.cloud.value);
  const untouched = !form.server.value.trim() || clouds.some((cloud) => cloud.smtp_host === form.server.value.trim());
  if (!chosen || !untouched) return;
  form.server.value = chosen.smtp_host;
  form.port.value = String(chosen.smtp_port);
  edited();
}

function edited() {
  show(byId("oauth-fields"), form.auth.value === "oauth2");
  show(byId("password-fields"), form.auth.value === "password");
  show(byId("discard"), isDirty());
  if (isDirty()) setText(byId("apply-result"), "");
  onChange();
}

function discard() {
  for (const name of FIELDS) form[name].value = shown(name);
  for (const name of SECRETS) form[name].value = "";
  clearErrors();
  setText(byId("trim-notice"), "");
  setText(byId("apply-result"), text.discarded);
  edited();
  loadSettings().catch(() => {}); // the applied values may have changed elsewhere; what is shown stays true to the last read
  form.server.focus();
}

function trim(field) {
  const clean = field.value.replace(BLANKS, "");
  if (clean === field.value) return;
  field.value = clean;
  setText(byId("trim-notice"), text.trimmed(labelOf(field)));
  edited();
}

const labelOf = (field) => field.labels[0].textContent;

// ---- Apply ----------------------------------------------------------------------------------------------------------

async function apply() {
  PASTED.forEach((name) => trim(form[name]));
  clearErrors();
  setText(byId("apply-result"), text.applying);
  const body = document_();
  byId("settings-fields").disabled = true; // what is typed now would be lost when the answer comes
  try {
    take(await call("PUT", "settings", body, etag ? { "If-Match": etag } : {}));
    setText(byId("apply-result"), text.applied);
    onTaken();
    setText(byId("trim-notice"), "");
  } catch (error) {
    setText(byId("apply-result"), "");
    if (!(error instanceof ApiError)) throw error;
    showRefusal(error);
  } finally {
    byId("settings-fields").disabled = false;
  }
  onChange();
}

/** The body of PUT: fields of the chosen method only, empty ones too (to clear them), secrets only when typed. */
function document_() {
  const method = form.auth.value;
  const body = {};
  const used = {
    none: ["server", "port", "security", "auth", "sender"],
    password: ["server", "port", "security", "auth", "sender", "username"],
    oauth2: ["server", "port", "security", "auth", "cloud", "sender", "client_id", "tenant_id", "secret_expires_on"],
  }[method];
  for (const name of used) body[name] = form[name].value.trim();
  if (/^\d+$/.test(body.port)) body.port = Number(body.port);
  if (method === "oauth2" && form.client_secret.value) body.client_secret = form.client_secret.value;
  if (method === "password" && form.password.value) body.password = form.password.value;
  return body;
}

function showRefusal(error) {
  byId("settings-fields").disabled = false; // or its fields could not take the focus
  const known = error.fieldErrors.filter(({ pointer }) => form.elements[nameOf(pointer)]);
  const lines = error.fieldErrors.map(({ pointer, detail }) => {
    const field = form.elements[nameOf(pointer)];
    return element("li", {}, field ? linkTo(field, detail) : detail);
  });
  for (const { pointer, detail } of known) markField(form.elements[nameOf(pointer)], detail);
  const heading = error.status === 412 ? text.changedElsewhere : lines.length ? text.notApplied(lines.length) : error.message;
  const remedy = error.problem.problem?.remedy;
  if (!lines.length && remedy) lines.push(element("li", {}, remedy));
  setText(byId("settings-summary-title"), heading);
  byId("settings-summary-list").replaceChildren(...lines);
  show(byId("settings-summary"));
  byId("settings-summary").focus();
}

const nameOf = (pointer) => pointer.split("/")[1] ?? "";

function linkTo(field, detail) {
  const jump = (event) => {
    event.preventDefault();
    field.focus();
  };
  return element("a", { href: `#${field.id}`, onclick: jump }, `${labelOf(field)}: ${detail}`);
}

function markField(field, detail) {
  field.setAttribute("aria-invalid", "true");
  setText(byId(`${field.id}-error`), detail);
}

function clearErrors() {
  show(byId("settings-summary"), false);
  for (const name of [...FIELDS, ...SECRETS]) {
    form[name].removeAttribute("aria-invalid");
    setText(byId(`${name}-error`), "");
  }
}
