// Email Daily Report: settings, preview, Send Report Now with its progress and outcome.

import { ApiError, call, get, post } from "./api.js";
import { byId, element, setText, show, whileBusy } from "./dom.js";
import { choose, chosen, clearFieldErrors, fillChoices, showFieldErrors, splitAddresses, unfold } from "./form.js";
import { text, when } from "./strings.js";

const TEXTS = ["subject", "title", "time", "time_zone"];
const FLAGS = ["enabled", "attach_csv", "attach_events", "reset_counters"];
const PROGRESS_MS = 400;
const POLL_MS = 1000;
const PATIENCE_MS = 90000;

let form = null;

export async function showReport() {
  if (unfold("report")) setUp();
  take(await get("report/settings"));
}

function setUp() {
  form = byId("report-form");
  fillChoices("report-weekdays", "weekdays", text.weekdays);
  fillChoices("report-sections", "sections", text.reportSections);
  const zones = Intl.supportedValuesOf?.("timeZone") ?? [];
  byId("report-zones").replaceChildren(...zones.map((zone) => element("option", { value: zone })));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    whileBusy(byId("report-apply"), apply);
  });
  byId("report-send").addEventListener("click", () => whileBusy(byId("report-send"), send));
  byId("report-preview").addEventListener("click", preview);
}

function take(settings) {
  for (const name of TEXTS) form.elements[name].value = settings[name];
  for (const name of FLAGS) form.elements[name].checked = settings[name];
  form.elements.recipients.value = settings.recipients.join(", ");
  choose("report-weekdays", settings.weekdays);
  choose("report-sections", settings.sections);
  setText(byId("report-next"), settings.next_at ? text.nextReport(when(settings.next_at)) : text.noReport);
}

async function apply() {
  clearFieldErrors("report", form);
  const body = { recipients: splitAddresses(form.elements.recipients.value) };
  for (const name of TEXTS) body[name] = form.elements[name].value.trim();
  for (const name of FLAGS) body[name] = form.elements[name].checked;
  body.weekdays = chosen("report-weekdays").map(Number);
  body.sections = chosen("report-sections");
  try {
    take((await call("PUT", "report/settings", body)).content);
    setText(byId("report-result"), text.applied);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    setText(byId("report-result"), showFieldErrors("report", form, error));
  }
}

// ---- Send Report Now ------------------------------------------------------------------------------------------------

async function send() {
  say(text.reportSteps.starting);
  const watching = setInterval(showStep, PROGRESS_MS);
  try {
    const { id } = await post("report/send", {});
    clearInterval(watching);
    await follow(id);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    say(error.message, "bad-text");
  } finally {
    clearInterval(watching);
  }
}

async function showStep() {
  const { step } = await get("report/progress").catch(() => ({}));
  if (text.reportSteps[step]) say(text.reportSteps[step]);
}

/** Until the mail server took it, refused it, or patience ends. */
async function follow(id) {
  const end = Date.now() + PATIENCE_MS;
  while (Date.now() < end) {
    const mail = await get(`mail/${encodeURIComponent(id)}`);
    if (mail.state === "sent") return say(`${text.reportSent(mail.to.join(", "))} ${text.testReply(mail.outcome?.reply ?? "")}`, "good-text");
    if (mail.state === "failed") return say(`${text.testFailed} ${mail.outcome?.reply ? text.testReply(mail.outcome.reply) : ""}`, "bad-text");
    say(mail.waiting_for ? text.testWaiting(mail.waiting_for.title) : text.reportSteps.queued);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  return say(text.testStillWaiting);
}

function say(sentence, look = "") {
  const line = byId("report-progress");
  line.className = `result ${look}`;
  setText(line, sentence);
}

/** In a frame of its own: the report's HTML has inline styles, which this page's policy forbids. */
function preview() {
  const frame = byId("report-frame");
  frame.src = "api/v1/report/preview"; // set anew each time, which also loads it anew
  show(frame);
}
