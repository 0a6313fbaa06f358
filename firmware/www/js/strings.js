// Every sentence that the scripts write; the fixed text of the page is in index.html. To translate: both files, and
// `lang` and `dir` of <html>.

const seconds = { second: 1, minute: 60, hour: 3600, day: 86400 };

function ago(span) {
  const unit = ["day", "hour", "minute"].find((name) => Math.abs(span) >= seconds[name]) ?? "second";
  return new Intl.RelativeTimeFormat("en", { numeric: "always" }).format(Math.round(span / seconds[unit]), unit);
}

const clock = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });
const exactClock = new Intl.DateTimeFormat("en-GB", { dateStyle: "short", timeStyle: "medium" });

export const when = (wall) => (wall ? `${clock.format(wall * 1000)} (${ago(wall - Date.now() / 1000)})` : "");
export const exactTime = (iso) => exactClock.format(new Date(iso));
export const shortTime = (wall) => clock.format(wall * 1000);

export const text = {
  title: (view) => `${view} – Gateway notification`,

  // the way to the gateway
  httpFailure: (status) =>
    status ? `The gateway answered with error ${status}.` : "The gateway does not answer. Check the network and try again.",
  sessionEnded: "You were logged out: the session ended. Log in again to go on.",
  loggedOut: "You are logged out.",
  loginNeeded: "Enter both user name and password.",

  // settings
  secretStored: "•••••••• stored",
  passwordStored: "A password is stored. Leave empty to keep it.",
  passwordMissing: "No password is stored.",
  cloudTitles: {
    public: "Microsoft 365 worldwide",
    usgov: "Microsoft 365 US Government (GCC High)",
    "usgov-dod": "Microsoft 365 US Government (DoD)",
    china: "Microsoft 365 operated by 21Vianet (China)",
  },
  trimmed: (label) => `Blanks around the pasted ${label} were removed.`,
  applying: "Applying… A new client secret is tried at Microsoft first.",
  applied: "Settings applied.",
  discarded: "Edits discarded.",
  changedElsewhere: "The settings were changed elsewhere in the meantime. Discard your edits to see them, then try again.",
  notApplied: (count) => (count === 1 ? "Not applied: one field needs a change." : `Not applied: ${count} fields need a change.`),

  // token
  states: {
    Unconfigured: ["", "Enter the mail server settings and choose Apply."],
    Applied: ["warn", "Settings are saved, but there is no token yet. Choose Get New Token."],
    Pending: ["info", "Waiting for the sign-in at Microsoft in the other tab."],
    Valid: ["good", "The gateway holds a token and renews it by itself."],
    Expired: ["bad", "The token has run out and could not be renewed yet. The gateway keeps trying."],
  },
  notOauth: "This authentication method needs no token.",
  validButHeld: "Microsoft issued a token, but mail cannot be sent with it: see below.",
  account: "Signed in as",
  validUntil: "Valid until",
  renewsAt: "Renews at",
  lastRenewed: "Obtained",
  obtained: (age) => ago(-age),
  unsavedFirst: "Get New Token is off: there are unsaved edits. Apply or discard them first.",
  applyFirst: "Get New Token is off: nothing is applied yet. Fill in the settings and choose Apply first.",
  oauthFirst: "Get New Token is off: choose Microsoft OAuth 2.0 as authentication method and Apply first.",
  opensTab: "Opens Microsoft’s sign-in in a new tab. Sign in there as the sender.",
  openingTab: "Asking for the sign-in address…",
  signinOpen: (wall) => `The sign-in is open in a new tab until ${shortTime(wall)}.`,
  blocked: "The browser blocked the new tab. Allow pop-ups for this page, or open it here: ",
  openSignin: "Open Microsoft’s sign-in",
  refreshing: "Checking the token…",
  cannotRenew: "The token still works, but Microsoft will not renew it: see below.",
  refreshedWithProblem: "Checked: there is a problem, see above.",
  refreshed: (state) => `Checked: the token is ${state === "Valid" ? "valid" : `“${state}”`}.`,
  cannotBegin: (reason) => `Cannot begin the sign-in: ${reason}`,
  newToken: "A new token was stored.",

  // problems
  said: (detail) => `The server said: ${detail}`,
  code: "Code",
  trace: "Trace ID",
  correlation: "Correlation ID",
  since: (wall) => `since ${shortTime(wall)}`,
  passing: "This should pass by itself.",
  mailHeld: "Mail is not leaving this gateway",
  mailHeldDetail: (count) => (count ? `${count} ${count === 1 ? "message waits" : "messages wait"}; none is lost.` : "New messages will wait; none is lost."),
  secretExpires: (days) => (days === 0 ? "The client secret expires today" : `The client secret expires in ${days} ${days === 1 ? "day" : "days"}`),
  secretExpired: "The client secret has expired",
  secretRemedy: "Create a new client secret in Entra, enter its Value here and choose Apply. No new sign-in is needed.",
  offline: "The gateway does not answer at the moment; this page tries again by itself.",

  signinHelp: [
    ["AADSTS50011", "The redirect URI is not registered. Register exactly one from the list below, type Web."],
    ["AADSTS700016", "The Client ID is not known in this tenant. Check Client ID and Tenant ID."],
    ["AADSTS90002", "The tenant is not known. Check Tenant ID and Cloud."],
    ["AADSTS50105", "The user is not assigned to the app. Entra: Enterprise applications > the app > Users and groups."],
    ["AADSTS90094, “Need admin approval”", "An administrator of the tenant must grant consent for the app’s permissions."],
    ["AADSTS53003, AADSTS50076", "A Conditional Access rule stops this sign-in. Ask the tenant’s administrator."],
    ["A certificate warning", "The tab is back at the gateway: the browser does not know its certificate. Accept it there to go on."],
    ["You signed in as yourself", "Choose Get New Token again and pick the sender’s account."],
  ],

  copy: "Copy",
  copied: "Copied",
  copyThis: (uri) => `Copy ${uri}`,
  noRedirects: "The gateway has no LAN address at the moment.",

  // test mail
  testAddress: "Enter one e-mail address.",
  testSending: "Sending…",
  testWaiting: (reason) => `Not sent yet: ${reason}`,
  testSent: "Sent.",
  testReply: (reply) => `The mail server answered: ${reply}`,
  testFailed: "Not sent.",
  testStillWaiting: "The message is still in the queue; Mail Queue shows what becomes of it.",

  // queue
  mailStates: { ready: "Ready", sending: "Being sent", held: "Held", deferred: "Waiting to retry", sent: "Sent", failed: "Failed" },
  counts: (counts) =>
    Object.entries(text.mailStates)
      .filter(([state]) => counts[state])
      .map(([state, name]) => `${name}: ${counts[state]}`)
      .join(" · "),
  queuePaused: "All mail is held by an administrator.",
  hold: "Hold all mail",
  resume: "Resume",
  held: "All mail is held from now on.",
  resumed: "Mail flows again.",
  mailPaused: "Mail is held by an administrator",
  pausedRemedy: "Open Mail Queue and press Resume when it shall flow again.",
  nextTry: (wall) => `Next try ${when(wall)}`,
  attempts: (count) => (count === 1 ? "1 attempt" : `${count} attempts`),
  retryNow: "Retry now",
  remove: "Delete",
  retryThis: (subject) => `Retry now: ${subject}`,
  removeThis: (subject) => `Delete: ${subject}`,
  sureToRemove: (subject) => `Delete this message for good?\n\n${subject}`,
  retried: "It is tried again now.",
  removed: "Deleted.",
  noSubject: "(no subject)",
  to: (recipients) => `to ${recipients.join(", ")}`,

  // check
  checking: "Checking… this takes up to a minute.",
  verdicts: { ok: ["good", "OK"], warning: ["warn", "Warning"], failed: ["bad", "Failed"], skipped: ["", "Skipped"] },
  checkVerdict: { ok: "Everything works.", warning: "It works, with warnings.", failed: "A step failed: see its remedy." },

  // log
  categories: ["token", "signin", "settings", "secret", "mail", "alert", "report", "auth", "clock", "network", "store", "service", "syslog"],
  logOldest: "These are the oldest records.",
  logNothing: "No record matches.",
  exporting: (count) => `Exporting… ${count} records`,
  exported: (count) => `Exported ${count} ${count === 1 ? "record" : "records"}.`,

  // report and alerts
  weekdays: [[1, "Mon"], [2, "Tue"], [3, "Wed"], [4, "Thu"], [5, "Fri"], [6, "Sat"], [7, "Sun"]],
  reportSections: [["system", "System"], ["traffic", "Traffic"], ["security", "Security"], ["mail", "Mail and token"], ["events", "Events"], ["services", "DHCP and VPN"]],
  nextReport: (time) => `Next report ${time}`,
  noReport: "No report is sent by itself.",
  reportSteps: {
    starting: "Making the report…",
    asking: "Asking notifyd…",
    looking: "Looking at the system…",
    drawing: "Drawing…",
    "handing-in": "Handing the mail in…",
    queued: "In the queue…",
  },
  reportSent: (to) => `The report was sent to ${to}.`,
  alertCategories: [["store", "Storage"], ["clock", "Clock"], ["network", "Network"], ["auth", "Logins"], ["secret", "Client secret"], ["settings", "Settings"], ["signin", "Sign-ins"], ["service", "Service"]],
  live: "New lines appear by themselves.",
  notLive: "The line to the gateway is broken; trying again…",
};
