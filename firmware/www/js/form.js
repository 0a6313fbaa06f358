// What the simpler forms share: errors beside their fields, lists of check boxes, addresses with commas.

import { byId, element, setText } from "./dom.js";

/** Puts a view's form into the document when the view is first opened; true that one time. */
export function unfold(name) {
  const template = byId(`${name}-template`);
  if (!template) return false;
  template.replaceWith(template.content);
  return true;
}

export const splitAddresses = (value) => value.split(/[\s,;]+/).filter(Boolean);

/** Check boxes named `name` for `[value, label]` pairs, into the element `place`. */
export function fillChoices(place, name, pairs) {
  byId(place).replaceChildren(
    ...pairs.map(([value, label]) => {
      const id = `${place}-${value}`;
      return element("span", { class: "choice" }, element("input", { type: "checkbox", id, name, value }), element("label", { for: id }, label));
    }),
  );
}

export function choose(place, values) {
  const wanted = values.map(String);
  for (const box of byId(place).querySelectorAll("input")) box.checked = wanted.includes(box.value);
}

export const chosen = (place) => [...byId(place).querySelectorAll("input:checked")].map((box) => box.value);

/** Shows each field error of an ApiError beside its field and moves to the first; returns the sentence for the form. */
export function showFieldErrors(prefix, form, error) {
  clearFieldErrors(prefix, form);
  let first = null;
  for (const { pointer, detail } of error.fieldErrors) {
    const name = pointer.split("/")[1];
    const line = byId(`${prefix}-${name}-error`);
    if (line) setText(line, detail);
    const field = form.elements[name];
    const input = field instanceof RadioNodeList ? field[0] : field;
    input?.setAttribute("aria-invalid", "true");
    first ??= input;
  }
  first?.focus();
  return error.message;
}

export function clearFieldErrors(prefix, form) {
  for (const line of form.querySelectorAll(`[id^="${prefix}-"].error`)) setText(line, "");
  for (const field of form.elements) field.removeAttribute("aria-invalid");
}
