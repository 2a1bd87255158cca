// Comforts of the console's pages; every page works without them.
"use strict";

document.documentElement.classList.add("scripted");

// On a phone, the navigation scrolls.
document.addEventListener("DOMContentLoaded", () => {
  document.querySelector("body > nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
});

// One box that ticks all needs a script; without it, it stays hidden.
const showBoxes = () => document.querySelectorAll("input[data-all]").forEach((each) => { each.hidden = false; });
document.addEventListener("DOMContentLoaded", showBoxes);
document.addEventListener("htmx:afterSettle", showBoxes);

// A select that takes effect at once has no need of its button.
document.addEventListener("change", (event) => {
  if (event.target.matches("select[data-submit]")) event.target.form.requestSubmit();
  const all = event.target.closest("input[data-all]");
  if (all) for (const each of document.querySelectorAll(`input[name="${all.dataset.all}"]`)) each.checked = all.checked;
});

document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.confirm ?? event.target.dataset.confirm;
  if (question && !window.confirm(question)) {
    event.preventDefault();
    event.stopImmediatePropagation();
  }
}, true);

// Do not refresh a part in which the user types, chooses, marks text or moves by keyboard: the focus would be lost.
const isInUse = (part) =>
  (part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea, :focus-visible")) ||
  part.querySelector("input[type=checkbox]:checked, textarea") !== null ||
  (!window.getSelection().isCollapsed && part.contains(window.getSelection().anchorNode));

// Refresh each part at most every three seconds, however much happens.
const REFRESH_INTERVAL = 3000;
const refreshedAt = new WeakMap();

document.addEventListener("htmx:beforeRequest", (event) => {
  const part = event.target;
  if (!part.matches("[data-live]")) return;
  const isTooSoon = Date.now() - (refreshedAt.get(part) ?? 0) < REFRESH_INTERVAL;
  if (document.hidden || isTooSoon || isInUse(part)) event.preventDefault();
  else refreshedAt.set(part, Date.now());
});

// What was opened stays open.
document.addEventListener("htmx:beforeSwap", (event) => {
  const opened = [...event.target.querySelectorAll("details[id][open]")].map((each) => each.id);
  document.addEventListener("htmx:afterSwap", () => {
    for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
  }, { once: true });
});

// A failed refresh leaves what is shown, and says that it is old.
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.target.matches?.("[data-live]")) event.target.classList.toggle("stale", !event.detail.successful);
});
