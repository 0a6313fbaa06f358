// Starts the page: login, views, and the stream that keeps everything current.

import { showAlerts } from "./alerts.js";
import { ApiError, call, followEvents, get, whenLoggedOut } from "./api.js";
import { showBanners } from "./banners.js";
import { setUpCheck } from "./check.js";
import { byId, setText, show, whileBusy } from "./dom.js";
import { addRecord, setUpLog, showLine, showLog } from "./log.js";
import { setUpQueue, showQueue } from "./queue.js";
import { showReport } from "./report.js";
import { dropEdits, loadSettings, setUpSettings } from "./settings.js";
import { text } from "./strings.js";
import { setUpTestMail } from "./testmail.js";
import { followSignin, loadRedirects, setUpToken, showStatus, showWhetherPossible, tokenStatus } from "./token.js";

const VIEWS = { "mail-server": null, queue: showQueue, check: null, log: showLog, report: showReport, alerts: showAlerts };
const FIRST_VIEW = "mail-server";
const NOTICE = "notice"; // what the next login page says, in this tab's storage
const SETTLE_MS = 150; // events come in bursts; one look at the status answers them all

let stopFollowing = () => {};
let connected = true;
let settling = 0;

// ---- login ----------------------------------------------------------------------------------------------------------

async function logIn() {
  const { user, password } = byId("login-form").elements;
  setText(byId("login-error"), "");
  if (!user.value.trim() || !password.value) return setText(byId("login-error"), text.loginNeeded);
  try {
    await call("POST", "session", { user: user.value.trim(), password: password.value });
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    setText(byId("login-error"), error.message);
    password.value = "";
    return password.focus();
  }
  return enter(user.value.trim());
}

async function logOut() {
  await call("DELETE", "session").catch(() => {});
  leave(text.loggedOut);
}

/** Ends the page with all that it shows, and begins a new one that says why. */
function leave(notice) {
  stopFollowing();
  dropEdits();
  sessionStorage.setItem(NOTICE, notice);
  location.reload();
}

function showLogin(error = "") {
  const notice = sessionStorage.getItem(NOTICE) ?? "";
  sessionStorage.removeItem(NOTICE);
  document.title = text.title("Log in");
  setText(byId("login-notice"), notice);
  setText(byId("login-error"), error);
  show(byId("login"));
  byId("login-user").focus();
}

async function enter(user) {
  byId("login").remove();
  document.body.append(byId("app-template").content);
  setText(byId("account-name"), user);
  show(byId("account"));
  setUpSettings(showWhetherPossible, look);
  for (const setUp of [setUpToken, setUpTestMail, setUpQueue, setUpCheck, setUpLog]) setUp();
  try {
    await loadSettings();
    await Promise.all([look(), loadRedirects()]);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return leave(error.message);
  }
  stopFollowing = followEvents(onRecord, onLine);
  window.addEventListener("hashchange", () => route({ focus: true }));
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") look();
  });
  return route();
}

// ---- what keeps the page current ------------------------------------------------------------------------------------

async function look() {
  try {
    showStatus(await get("status"));
    showBanners(tokenStatus(), connected);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status !== 401) showBanners(tokenStatus(), false);
  }
}

function onRecord(record) {
  addRecord(record);
  followSignin(record);
  clearTimeout(settling);
  settling = setTimeout(() => settle(record), SETTLE_MS);
}

async function settle(record) {
  await look();
  if (record.category === "settings") await loadSettings();
  if (record.category === "network") await loadRedirects();
  if (currentView() === "queue") await showQueue();
}

function onLine(nowConnected) {
  connected = nowConnected;
  showLine(connected);
  showBanners(tokenStatus(), connected);
  if (connected) look();
}

// ---- views ----------------------------------------------------------------------------------------------------------

function currentView() {
  const name = location.hash.slice(1);
  return name in VIEWS ? name : FIRST_VIEW;
}

async function route({ focus = false } = {}) {
  const name = currentView();
  for (const view of Object.keys(VIEWS)) {
    show(byId(view), view === name);
    const link = document.querySelector(`nav a[href="#${view}"]`);
    if (view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const title = byId(`${name}-title`);
  document.title = text.title(title.textContent);
  if (focus) title.focus();
  await VIEWS[name]?.();
}

function skipToContent(event) {
  event.preventDefault(); // the address's fragment names the view
  (byId("login") ?? byId(currentView())).querySelector("h1").focus();
}

async function start() {
  byId("login-form").addEventListener("submit", (event) => {
    event.preventDefault();
    whileBusy(byId("login-submit"), logIn);
  });
  byId("logout").addEventListener("click", logOut);
  document.querySelector(".skip").addEventListener("click", skipToContent);
  whenLoggedOut(() => leave(text.sessionEnded));
  let user = "";
  try {
    ({ user } = await get("session"));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return showLogin(error.status === 401 ? "" : error.message);
  }
  return enter(user);
}

start();
