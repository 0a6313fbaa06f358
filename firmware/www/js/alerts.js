// Email Alerts: which events are told of by mail.

import { ApiError, call, get } from "./api.js";
import { byId, setText, whileBusy } from "./dom.js";
import { choose, chosen, clearFieldErrors, fillChoices, showFieldErrors, splitAddresses, unfold } from "./form.js";
import { text } from "./strings.js";

let form = null;

export async function showAlerts() {
  if (unfold("alerts")) setUp();
  take(await get("alerts/settings"));
}

function setUp() {
  form = byId("alerts-form");
  fillChoices("alerts-categories", "categories", text.alertCategories);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    whileBusy(byId("alerts-apply"), apply);
  });
}

function take(settings) {
  form.elements.enabled.checked = settings.enabled;
  form.elements.recipients.value = settings.recipients.join(", ");
  form.elements.level.value = settings.level;
  form.elements.interval_min.value = String(settings.interval_min);
  // None chosen means all: shown as all.
  choose("alerts-categories", settings.categories.length ? settings.categories : text.alertCategories.map(([name]) => name));
}

async function apply() {
  clearFieldErrors("alerts", form);
  const body = {
    enabled: form.elements.enabled.checked,
    recipients: splitAddresses(form.elements.recipients.value),
    level: form.elements.level.value,
    categories: chosen("alerts-categories"),
    interval_min: /^\d+$/.test(form.elements.interval_min.value.trim()) ? Number(form.elements.interval_min.value) : 0,
  };
  try {
    take((await call("PUT", "alerts/settings", body)).content);
    setText(byId("alerts-result"), text.applied);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    setText(byId("alerts-result"), showFieldErrors("alerts", form, error));
  }
}
