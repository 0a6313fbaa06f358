// The Mail Queue: what waits, why, until when; retry, delete, hold.

import { ApiError, call, get, post } from "./api.js";
import { byId, element, setText, show, whileBusy } from "./dom.js";
import { shortTime, text } from "./strings.js";
import { tokenStatus } from "./token.js";

const LOOKS = { sent: "good", failed: "bad", held: "warn", deferred: "warn", sending: "info" };

export function setUpQueue() {
  byId("queue-reload").addEventListener("click", () => whileBusy(byId("queue-reload"), showQueue));
  byId("queue-hold").addEventListener("click", () => whileBusy(byId("queue-hold"), holdOrRelease));
}

export async function showQueue() {
  const { messages, counts } = await get("mail?limit=200");
  const paused = isPaused();
  setText(byId("queue-counts"), [paused ? text.queuePaused : "", text.counts(counts)].filter(Boolean).join(" "));
  setText(byId("queue-hold"), paused ? text.resume : text.hold);
  byId("queue-rows").replaceChildren(...messages.map(row));
  show(byId("queue-empty"), messages.length === 0);
}

const isPaused = () => Boolean(tokenStatus()?.queue?.paused);

function row(mail) {
  const subject = mail.subject || text.noSubject;
  const open = mail.state !== "sent" && mail.state !== "sending";
  const actions = open ? [action(text.retryNow, text.retryThis(subject), () => retry(mail)), action(text.remove, text.removeThis(subject), () => remove(mail, subject))] : [];
  return element(
    "tr",
    {},
    element("td", {}, subject, sub(text.to(mail.to)), sub(shortTime(mail.created_at))),
    element("td", {}, element("span", { class: `badge ${LOOKS[mail.state] ?? ""}` }, text.mailStates[mail.state] ?? mail.state)),
    element("td", {}, ...reasons(mail)),
    element("td", {}, element("div", { class: "actions" }, ...actions)),
  );
}

function reasons(mail) {
  const open = mail.state !== "sent" && mail.state !== "failed";
  const problem = mail.waiting_for;
  return [
    problem ? problem.title : (mail.outcome?.reply ?? ""),
    problem?.remedy ? sub(problem.remedy) : "",
    open && mail.next_attempt_at ? sub(text.nextTry(mail.next_attempt_at)) : "",
    mail.attempts ? sub(text.attempts(mail.attempts)) : "",
  ].filter(Boolean);
}

const sub = (words) => element("span", { class: "sub" }, words);

function action(label, full, work) {
  const press = (event) => whileBusy(event.currentTarget, work);
  return element("button", { type: "button", class: "small", "aria-label": full, onclick: press }, label);
}

const retry = (mail) => attempt(() => post(`mail/${encodeURIComponent(mail.id)}/retry`), text.retried);

function remove(mail, subject) {
  if (!window.confirm(text.sureToRemove(subject))) return null;
  return attempt(() => call("DELETE", `mail/${encodeURIComponent(mail.id)}`), text.removed);
}

function holdOrRelease() {
  const paused = isPaused();
  return attempt(async () => {
    const answer = await post(paused ? "mail/release" : "mail/hold");
    const status = tokenStatus();
    if (status?.queue) status.queue.paused = answer.paused;
  }, paused ? text.resumed : text.held);
}

async function attempt(work, done) {
  let said = done;
  try {
    await work();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    said = error.message;
  }
  setText(byId("queue-result"), said);
  await showQueue();
}
