// The step-by-step check.

import { ApiError, post } from "./api.js";
import { byId, element, setText, whileBusy } from "./dom.js";
import { text } from "./strings.js";

export function setUpCheck() {
  byId("run-check").addEventListener("click", () => whileBusy(byId("run-check"), run));
}

async function run() {
  byId("check-steps").replaceChildren();
  setText(byId("check-result"), text.checking);
  try {
    const { verdict, steps } = await post("diagnose", {});
    setText(byId("check-result"), text.checkVerdict[verdict] ?? verdict);
    byId("check-steps").replaceChildren(...steps.map(line));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    setText(byId("check-result"), error.message);
  }
}

function line({ step, verdict, evidence, remedy }) {
  const [look, word] = text.verdicts[verdict] ?? ["", verdict];
  return element(
    "li",
    {},
    element("span", { class: `badge ${look}` }, word),
    element("div", {}, element("h2", {}, step), evidence ? element("p", {}, evidence) : "", remedy ? element("p", {}, element("b", {}, remedy)) : ""),
  );
}
