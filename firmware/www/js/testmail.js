// Send test mail, and its outcome.

import { ApiError, get, post } from "./api.js";
import { byId, element, setText, show, whileBusy } from "./dom.js";
import { text } from "./strings.js";
import { showProblem } from "./token.js";

const POLL_MS = 1000;
const PATIENCE_MS = 90000;

let form = null;

export function setUpTestMail() {
  form = byId("test-mail");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    whileBusy(byId("send-test"), send);
  });
}

async function send() {
  const to = form.to.value.trim();
  const wrong = /^[^\s@]+@[^\s@]+$/.test(to) ? "" : text.testAddress;
  showFieldError(wrong);
  if (wrong) return form.to.focus();
  say(text.testSending);
  try {
    return await follow((await post("mail/test", { to })).id);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    showFieldError(error.fieldErrors[0]?.detail ?? "");
    return say(text.testFailed, "bad-text", error.problem.problem ?? null, error.message);
  }
}

/** Looks the message up until it is sent or failed, or patience ends. */
async function follow(id) {
  const end = Date.now() + PATIENCE_MS;
  while (Date.now() < end) {
    const mail = await get(`mail/${encodeURIComponent(id)}`);
    if (mail.state === "sent") return say(text.testSent, "good-text", null, text.testReply(mail.outcome?.reply ?? ""));
    if (mail.state === "failed") return say(text.testFailed, "bad-text", mail.waiting_for, replyOf(mail));
    if (mail.waiting_for) say(text.testWaiting(mail.waiting_for.title), "", mail.waiting_for);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  return say(text.testStillWaiting);
}

function replyOf(mail) {
  const replies = [mail.outcome?.reply, ...(mail.outcome?.per_recipient ?? []).map((each) => each.reply)];
  const reply = replies.find(Boolean);
  return reply ? text.testReply(reply) : "";
}

let said = "";

/** Rewrites the outcome only when it changed, so that a screen reader is not told every second. */
function say(sentence, look = "", problem = null, more = "") {
  const key = JSON.stringify([sentence, look, problem, more]);
  if (key === said) return;
  said = key;
  const box = element("div", { class: "problem" });
  showProblem(box, problem);
  byId("test-result").replaceChildren(
    element("p", { class: look || null }, sentence),
    more ? element("p", {}, more) : "",
    problem ? box : "",
  );
}

function showFieldError(detail) {
  setText(byId("test-to-error"), detail);
  if (detail) form.to.setAttribute("aria-invalid", "true");
  else form.to.removeAttribute("aria-invalid");
  show(byId("test-to-error"), Boolean(detail));
}
