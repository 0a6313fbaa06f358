// Starts the page: login, views, and the stream that keeps everything current.

import { ApiError, call, followEvents, get, whenLoggedOut } from "./api.js";
import { showBanners } from "./banners.js";
import { setUpCheck } from "./check.js";
import { byId, setText, show, whileBusy } from "./dom.js";
import { addRecord, setUpLog, showLine, showLog } from "./log.js";
import { setUpQueue, showQueue } from "./queue.js";
import { loadSettings, setUpSettings } from "./settings.js";
import { text } from "./strings.js";
import { setUpTestMail } from "./testmail.js";
import { followSignin, loadRedirects, setUpToken, showStatus, showWhetherPossible, tokenStatus } from "./token.js";

const VIEWS = { "mail-server": null, queue: showQueue, check: null, log: showLog };
const FIRST_VIEW = "mail-server";
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
    const { content } = await call("POST", "session", { user: user.value.trim(), password: password.value });
    password.value = "";
    return await enter(content.user);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    setText(byId("login-error"), error.message);
    password.value = "";
    return password.focus();
  }
}

async function logOut() {
  await call("DELETE", "session").catch(() => {});
  showLogin(text.loggedOut);
}

function showLogin(notice = "") {
  stopFollowing();
  show(byId("app"), false);
  show(byId("account"), false);
  show(byId("login"));
  document.title = text.title("Log in");
  setText(byId("login-notice"), notice);
  show(byId("login-notice"), Boolean(notice));
  byId("login-user").focus();
}

async function enter(user) {
  show(byId("login"), false);
  show(byId("app"));
  setText(byId("account-name"), user);
  show(byId("account"));
  await loadSettings();
  await Promise.all([look(), loadRedirects()]);
  stopFollowing();
  stopFollowing = followEvents(onRecord, onLine);
  await route();
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
  if (record.category === "settings") await loadIfClean();
  if (record.category === "network") await loadRedirects();
  if (currentView() === "queue") await showQueue();
}

/** Another administrator's Apply shows up here, unless this one is in the middle of edits. */
async function loadIfClean() {
  if (byId("discard").hidden) await loadSettings();
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

async function start() {
  byId("login-form").addEventListener("submit", (event) => {
    event.preventDefault();
    whileBusy(byId("login-submit"), logIn);
  });
  byId("logout").addEventListener("click", logOut);
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // the address's fragment names the view
    const view = byId("app").hidden ? byId("login") : byId(currentView());
    view.querySelector("h1").focus();
  });
  window.addEventListener("hashchange", () => route({ focus: true }));
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible" && !byId("app").hidden) look();
  });
  whenLoggedOut(() => showLogin(text.sessionEnded));
  setUpSettings(showWhetherPossible);
  setUpToken();
  setUpTestMail();
  setUpQueue();
  setUpCheck();
  setUpLog();
  try {
    await enter((await get("session")).user);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    showLogin(error.status === 401 ? "" : error.message);
  }
}

start();
