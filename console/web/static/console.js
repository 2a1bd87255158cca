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

// Refresh each part at most every three seconds, however much happens. What changes in between, while a response is on
// its way, or while the part is in use, is shown afterwards.
const REFRESH_INTERVAL = 3000;
const refreshedAt = new Map(); // by the id of the part, as its element is replaced
const outdated = new Set(); // ids

document.addEventListener("htmx:trigger", (event) => {
  if (event.target.matches("[data-live]")) outdated.add(event.target.id);
});

// What changed between the answer and the (re)connection was not announced.
document.addEventListener("htmx:sseOpen", () => {
  for (const part of document.querySelectorAll("[data-live]")) outdated.add(part.id);
});

document.addEventListener("htmx:beforeRequest", (event) => {
  const part = event.target;
  if (!part.matches("[data-live]")) return;
  const isTooSoon = Date.now() - (refreshedAt.get(part.id) ?? 0) < REFRESH_INTERVAL;
  if (document.hidden || isTooSoon || isInUse(part)) {
    event.preventDefault();
    return;
  }
  refreshedAt.set(part.id, Date.now());
  outdated.delete(part.id);
});

setInterval(() => outdated.forEach((id) => {
  const part = document.getElementById(id);
  if (part) htmx.trigger(part, "outdated");
  else outdated.delete(id);
}), 1000);

// What has not changed is not replaced: whoever points at it, or reads it out, keeps it.
document.addEventListener("htmx:beforeSwap", (event) => {
  const part = event.target;
  if (!part.matches("[data-live]")) return;
  const found = new DOMParser().parseFromString(event.detail.serverResponse, "text/html").getElementById(part.id);
  if (found?.innerHTML === part.innerHTML) event.detail.shouldSwap = false;
});

// What was opened stays open.
document.addEventListener("htmx:beforeSwap", (event) => {
  const opened = [...event.target.querySelectorAll("details[id][open]")].map((each) => each.id);
  document.addEventListener("htmx:afterSwap", () => {
    for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
  }, { once: true });
});

// A failed refresh leaves what is shown, says that it is old, and is tried again.
document.addEventListener("htmx:afterRequest", (event) => {
  const part = event.target;
  if (!part.matches?.("[data-live]")) return;
  part.classList.toggle("stale", !event.detail.successful);
  if (!event.detail.successful) outdated.add(part.id);
});
