// Warnings that concern every view: mail is not leaving, the client secret is about to end, the gateway is away.

import { byId, element } from "./dom.js";
import { text } from "./strings.js";

const WARN_DAYS = 30;
const DAY_MS = 86400000;

let shown = "";

export function showBanners(status, connected) {
  const banners = [...(connected ? [] : [offline()]), ...mailBanner(status), ...secretBanner(status?.secret_expires_on)];
  const key = JSON.stringify(banners);
  if (key === shown) return;
  shown = key;
  byId("banners").replaceChildren(
    ...banners.map(({ look, title, lines }) =>
      element("p", { class: `banner ${look}` }, element("b", {}, title), lines.filter(Boolean).join(" ")),
    ),
  );
}

const offline = () => ({ look: "warn", title: text.offline, lines: [] });

function mailBanner(status) {
  if (!status || status.state === "Unconfigured") return [];
  const waiting = text.mailHeldDetail(status.queue?.held ?? 0);
  if (status.queue?.paused) return [{ look: "warn", title: text.mailPaused, lines: [text.pausedRemedy, waiting] }];
  if (status.can_send || !status.problem || status.problem.code.startsWith("secret.expiring")) return [];
  const { title, remedy } = status.problem;
  return [{ look: "bad", title: `${text.mailHeld}: ${title}`, lines: [remedy, waiting] }];
}

function secretBanner(date) {
  if (!date) return [];
  const days = Math.ceil((Date.parse(`${date}T00:00:00`) - Date.now()) / DAY_MS);
  if (days > WARN_DAYS) return [];
  const title = days < 0 ? text.secretExpired : text.secretExpires(days);
  return [{ look: days < 8 ? "bad" : "warn", title, lines: [text.secretRemedy] }];
}
