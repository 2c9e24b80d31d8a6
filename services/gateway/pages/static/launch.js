// A launch: shows its steps and log as they happen, and opens the server when it is ready.

import { follow, RequestRefused } from "./events.js";
import { LogView } from "./log.js";

const STEP_OF_PHASE = {
  resolving: "resolving", fetching: "building", building: "building", pushing: "building", built: "launching",
  launching: "launching",
};
const RELOADS_MAX = 12;

const page = document.getElementById("launch");
const { id, name } = page.dataset;
const announcement = document.getElementById("announcement");
const view = new LogView(document.getElementById("log"), document.getElementById("log-note"));
const leaving = new AbortController();
let hasEnded = page.dataset.final === "yes";
let currentPhase = "";
let hasTriedToOpen = false;

document.documentElement.classList.add("scripted");

const situation = () => document.getElementById("situation");
const steps = () => [...situation().querySelectorAll(".steps li")];

function showHeadline(headline, announcementText = headline, explanation = "") {
  document.getElementById("headline").textContent = headline;
  const detail = document.getElementById("explanation");
  detail.textContent = explanation;
  detail.hidden = !explanation;
  document.title = `${headline} · ${name} · Bindery`;
  if (announcement.textContent !== announcementText) announcement.textContent = announcementText;
}

function markSteps(phase) {
  const order = steps();
  const position = order.findIndex((step) => step.dataset.phase === phase);
  order.forEach((step, index) => {
    let state = "todo";
    if (index < position) state = "done";
    else if (index === position) state = "current";

    step.className = state;
    step.toggleAttribute("aria-current", false);
    if (state === "current") step.setAttribute("aria-current", "step");
    step.querySelector(".state").textContent = { done: "done", current: "under way", todo: "still to come" }[state];
  });
  return order[position];
}

function enterPhase(phase) {
  if (phase === currentPhase) return;
  currentPhase = phase;
  showHeadline(markSteps(phase).dataset.doing);
}

// As `duration` and `queue_sentence` of launch_page.py: times and positions change while the page is open, and the
// server does not render it again for each change.
const duration = (seconds) => {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.round(whole / 60);
  if (minutes < 60) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h${minutes % 60 ? ` ${minutes % 60} min` : ""}`;
};

function showQueue(queue) {
  const headline = currentPhase === "launching" ? "Waiting for a free seat" : "Waiting for a builder";
  const rank = queue.position ? `: number ${queue.position} in the queue` : "";
  const eta = queue.position && queue.eta_seconds != null ? `, about ${duration(queue.eta_seconds)}` : "";
  showHeadline(headline + rank + eta, headline + rank, queue.reason ?? "");
}

function startClock() {
  const clock = situation().querySelector(".clock");
  const startedAt = performance.now() - Number(clock.dataset.seconds) * 1000;
  const timer = setInterval(() => {
    if (!clock.isConnected || hasEnded) return clearInterval(timer);
    clock.textContent = duration((performance.now() - startedAt) / 1000);
  }, 1000);
}

/** Replaces our view of the launch by the gateway's: that has the outcome and the next possible actions. */
async function reloadSituation() {
  for (let tries = 0; tries < RELOADS_MAX; tries++) {
    try {
      const reply = await fetch(location.pathname, { headers: { accept: "text/html" }, cache: "no-store" });
      if (reply.status === 401) { // the session has ended: the page itself says how to start another one
        location.reload();
        return;
      }

      const newPage = new DOMParser().parseFromString(await reply.text(), "text/html");
      const section = newPage.getElementById("situation");
      if (section?.dataset.final === "yes") {
        if (!hasTriedToOpen && newPage.getElementById("launch").dataset.opens === "yes") {
          open();
          return;
        }

        const hadFocus = situation().contains(document.activeElement);
        situation().replaceWith(section);
        document.title = newPage.title;
        const headline = document.getElementById("headline");
        const detail = section.querySelector(".trouble")?.textContent ?? "";
        announcement.textContent = `${headline.textContent}. ${detail}`;
        if (hadFocus) headline.focus();
        return;
      }
    } catch {
      // The network may be back at the next try.
    }
    await new Promise((resolve) => setTimeout(resolve, 300 * (tries + 1)));
  }
}

function open() {
  hasTriedToOpen = true; // if the browser comes back here, it must not try again
  currentPhase = "ready";
  markSteps("ready");
  showHeadline("Ready: opening the server");
  location.replace(`/launches/${encodeURIComponent(id)}/open`);
}

async function end(event) {
  if (hasEnded) return;
  hasEnded = true;
  const { code, title, detail } = event.error ?? {};
  if (event.phase === "ready" && event.url) open();
  else if (code === "launch_lost") showHeadline(title, `${title}. ${detail}`, detail); // no page has it any more
  else await reloadSituation();
}

function linkRawLog(path) {
  const link = document.getElementById("raw-log");
  link.href = path;
  link.hidden = false;
}

/** Shows the line of the log that a link leads to here, if it is still here; else the browser follows the link. */
function onClick(click) {
  const link = click.target.closest?.("a[data-after]");
  if (link && view.showLineAfter(link.dataset.after)) click.preventDefault();
}

function onEvent(event, id) {
  if (event.log) linkRawLog(event.log);
  if (event.phase === "gap") {
    view.write(`\n… ${event.lines ?? "Some"} lines are missing here …\n`);
    return false;
  }

  if (["ready", "failed", "cancelled"].includes(event.phase)) {
    if (event.message && view.isEmpty) view.write(event.message); // else the log has it already
    end(event);
    return true;
  }

  if (event.message && !event.queue) view.write(event.message, id.split("~")[2]); // a place in a queue is the headline's, not the log's
  if (hasEnded) return false;

  const phase = STEP_OF_PHASE[event.phase];
  if (event.phase === "waiting" && event.queue && currentPhase === "resolving") enterPhase("building");
  if (phase) enterPhase(phase);
  if (event.queue) showQueue(event.queue);
  else if (phase) showHeadline(steps().find((step) => step.dataset.phase === phase).dataset.doing);
  return false;
}

function onConnection(isUp) {
  const notice = situation().querySelector(".connection");
  if (notice) notice.hidden = isUp || hasEnded;
}

async function run() {
  if (page.dataset.opens === "yes") {
    open();
    return;
  }
  if (!hasEnded) {
    currentPhase = steps().find((step) => step.classList.contains("current"))?.dataset.phase ?? "";
    startClock();
  }

  try {
    await follow(`/api/v1/launches/${encodeURIComponent(id)}/events`, {
      onEvent, onConnection, signal: leaving.signal,
    });
  } catch (error) {
    if (!(error instanceof RequestRefused)) throw error;
    await reloadSituation();
  }
}

document.addEventListener("click", onClick);
window.addEventListener("pagehide", () => leaving.abort());
window.addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});
run();
