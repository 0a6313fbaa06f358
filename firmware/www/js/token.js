// Token Status, Get New Token, Refresh Token Status and the redirect URIs.

import { ApiError, get, post } from "./api.js";
import { byId, element, fillFacts, setText, show, whileBusy } from "./dom.js";
import { appliedSettings, isDirty } from "./settings.js";
import { text, when } from "./strings.js";

const CALLBACK = "/cgi-bin/msoauth2.cgi";
const PAUSED = "mail.paused";
const HELP_AFTER_MS = 60000; // a sign-in that takes longer may be stuck at one of Microsoft's own pages

let status = null;
let redirects = [];
let helpTimer = 0;

export function setUpToken() {
  byId("get-new-token").addEventListener("click", getNewToken);
  byId("refresh-token-status").addEventListener("click", () => whileBusy(byId("refresh-token-status"), refresh));
  byId("signin-help-list").append(
    ...text.signinHelp.flatMap(([code, meaning]) => [element("dt", {}, code), element("dd", {}, meaning)]),
  );
}

export const tokenStatus = () => status;

// ---- Token Status ---------------------------------------------------------------------------------------------------

export function showStatus(news) {
  status = news;
  const oauth = appliedSettings()?.auth === "oauth2" || news.state !== "Unconfigured";
  const [look, sentence] = text.states[news.state] ?? ["", ""];
  const problem = news.problem?.code === PAUSED ? null : news.problem; // no fault of the token
  const dead = news.state === "Valid" && !news.can_send && !news.queue?.paused;
  const ending = news.state === "Valid" && Boolean(problem) && !problem.transient && problem.source === "entra";
  byId("token-status").className = `badge ${dead || ending ? "warn" : look}`;
  setText(byId("token-status"), news.state);
  const troubled = (dead && text.validButHeld) || (ending && text.cannotRenew);
  setText(byId("token-sentence"), troubled || (oauth || !appliedSettings()?.applied ? sentence : text.notOauth));
  fillFacts(byId("token-facts"), [
    [text.account, news.account],
    [text.validUntil, when(news.access_expires_at)],
    [text.renewsAt, when(news.refresh_due_at)],
    [text.lastRenewed, news.grant_age_s === null ? "" : text.obtained(news.grant_age_s)],
  ]);
  showProblem(byId("problem"), problem);
  if (news.pending) show(byId("signin-help"));
  showWhetherPossible();
}

/** A problem in full: what, what to do, the server's words, the identifiers for a support case. */
export function showProblem(box, problem) {
  show(box, Boolean(problem));
  if (!problem) return box.replaceChildren();
  const ids = [
    [text.code, problem.code],
    [text.trace, problem.trace_id],
    [text.correlation, problem.correlation_id],
  ].filter(([, value]) => value);
  box.classList.toggle("passing", Boolean(problem.transient));
  return box.replaceChildren(
    element("p", { class: "what" }, problem.title),
    element("p", {}, problem.remedy || (problem.transient ? text.passing : "")),
    problem.detail ? element("p", { class: "said" }, text.said(problem.detail)) : "",
    ...ids.map(([name, value]) => element("p", { class: "ids" }, `${name}: ${value}`)),
  );
}

/** Whether Get New Token can be pressed, and if not, why: in words, next to it. */
export function showWhetherPossible() {
  const settings = appliedSettings();
  let why = "";
  if (isDirty() && settings?.applied) why = text.unsavedFirst;
  else if (!settings?.applied) why = text.applyFirst;
  else if (settings.auth !== "oauth2") why = text.oauthFirst;
  byId("get-new-token").disabled = Boolean(why) || byId("get-new-token").hasAttribute("aria-busy");
  setText(byId("get-new-token-why"), why || text.opensTab);
}

async function refresh() {
  setText(byId("token-result"), text.refreshing);
  try {
    showStatus(await post("token/refresh", { force: true }));
    setText(byId("token-result"), status.problem ? text.refreshedWithProblem : text.refreshed(status.state));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    setText(byId("token-result"), error.message);
  }
}

// ---- Get New Token --------------------------------------------------------------------------------------------------

/** Opens the tab inside the click, before anything is awaited: a tab opened later counts as a pop-up. */
function getNewToken() {
  const tab = window.open("/opening.html", "_blank");
  whileBusy(byId("get-new-token"), () => beginSignin(tab)).then(showWhetherPossible);
}

async function beginSignin(tab) {
  show(byId("signin-link"), false);
  setText(byId("token-result"), text.openingTab);
  try {
    const begun = await post("token/authorize", redirectChoice());
    if (tab && !tab.closed) {
      tab.location.replace(begun.authorize_url);
      setText(byId("token-result"), text.signinOpen(begun.expires_at));
    } else {
      offerLink(begun.authorize_url);
    }
    expectHelp();
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    tab?.close();
    setText(byId("token-result"), text.cannotBegin(error.message));
  }
}

/** Microsoft shall send the tab back to the address by which this page was opened, if the gateway knows it as its own. */
function redirectChoice() {
  const here = location.origin + CALLBACK;
  return redirects.includes(here) ? { redirect_uri: here } : {};
}

function offerLink(url) {
  setText(byId("token-result"), "");
  const open = (event) => {
    if (window.open(url, "_blank")) event.preventDefault(); // opened by script, so that it may close itself
  };
  byId("signin-link").replaceChildren(
    text.blocked,
    element("a", { href: url, target: "_blank", rel: "noopener", onclick: open }, text.openSignin),
  );
  show(byId("signin-link"));
}

function expectHelp() {
  clearTimeout(helpTimer);
  helpTimer = setTimeout(() => {
    if (status?.state === "Pending" || status?.pending) byId("signin-help").open = true;
  }, HELP_AFTER_MS);
}

const SIGNIN_ENDS = {
  "token.retrieved": () => text.newToken,
  "signin.failed": (record) => record.message,
  "signin.timed_out": (record) => record.message,
};

/** What the log's stream says about the sign-in that is under way; the tab itself cannot tell (COOP cuts it off). */
export function followSignin(record) {
  const words = SIGNIN_ENDS[record.event];
  if (!words) return;
  clearTimeout(helpTimer);
  show(byId("signin-link"), false);
  setText(byId("token-result"), words(record));
  const done = record.event === "token.retrieved";
  show(byId("signin-help"), !done);
  byId("signin-help").open = record.event === "signin.timed_out";
}

// ---- redirect URIs --------------------------------------------------------------------------------------------------

export async function loadRedirects() {
  redirects = (await get("redirect-uris")).redirect_uris;
  const here = location.origin + CALLBACK;
  const ordered = [...redirects].sort((a, b) => (b === here) - (a === here));
  byId("redirect-list").replaceChildren(
    ...(ordered.length ? ordered.map(redirectLine) : [element("li", {}, text.noRedirects)]),
  );
}

function redirectLine(uri) {
  const copy = async (event) => {
    const button = event.currentTarget;
    await copyText(uri);
    setText(button, text.copied);
    setTimeout(() => setText(button, text.copy), 2000);
  };
  return element(
    "li",
    {},
    element("code", {}, uri),
    element("button", { type: "button", class: "small", "aria-label": text.copyThis(uri), onclick: copy }, text.copy),
  );
}

/** Some browsers give a page with a self-signed certificate no clipboard: then the text is selected for Ctrl-C. */
async function copyText(value) {
  try {
    await navigator.clipboard.writeText(value);
  } catch {
    const code = [...byId("redirect-list").querySelectorAll("code")].find((each) => each.textContent === value);
    getSelection().selectAllChildren(code);
  }
}
