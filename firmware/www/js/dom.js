// The few things that every module does to the document. Text is always set as text, never as markup.

export const byId = (id) => document.getElementById(id);

/** An element with attributes (`onclick` and the like are listeners) and children (strings become text). */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

/** Sets text only when it differs, so that a live region speaks only of news. */
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

export function show(target, visible = true) {
  target.hidden = !visible;
}

/** Runs `work` while the button is busy: it cannot be pressed twice. Returns what `work` returns. */
export async function whileBusy(button, work) {
  const before = button.disabled;
  button.disabled = true;
  button.setAttribute("aria-busy", "true");
  try {
    return await work();
  } finally {
    button.disabled = before;
    button.removeAttribute("aria-busy");
  }
}

/** The rows of a <dl> from pairs; pairs without a value are left out. */
export function fillFacts(list, pairs) {
  list.replaceChildren(
    ...pairs.filter(([, value]) => value).flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]),
  );
}
