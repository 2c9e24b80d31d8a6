// A launch: its steps and log as they happen, and into the server when it is ready.

import { follow, Refused } from "./events.js";
import { LogView } from "./log.js";

const STEP_OF_PHASE = {
  resolving: "resolving", fetching: "building", building: "building", pushing: "building", built: "launching",
  launching: "launching",
};
const RENEWALS = 12;

const page = document.getElementById("launch");
const { id, name } = page.dataset;
const announcement = document.getElementById("announcement");
const view = new LogView(document.getElementById("log"), document.getElementById("log-note"));
const done = new AbortController();
let wasFinal = page.dataset.final === "yes";
let current = "";
let failedToOpen = false;

document.documentElement.classList.add("scripted");

const situation = () => document.getElementById("situation");
const steps = () => [...situation().querySelectorAll(".steps li")];

function say(headline, announced = headline, explanation = "") {
  document.getElementById("headline").textContent = headline;
  const detail = document.getElementById("explanation");
  detail.textContent = explanation;
  detail.hidden = !explanation;
  document.title = `${headline} · ${name} · Bindery`;
  if (announcement.textContent !== announced) announcement.textContent = announced;
}

function markSteps(phase) {
  const order = steps();
  const at = order.findIndex((step) => step.dataset.phase === phase);
  order.forEach((step, index) => {
    const state = index < at ? "done" : index === at ? "current" : "todo";
    step.className = state;
    step.toggleAttribute("aria-current", false);
    if (state === "current") step.setAttribute("aria-current", "step");
    step.querySelector(".state").textContent = { done: "done", current: "under way", todo: "still to come" }[state];
  });
  return order[at];
}

function goTo(phase) {
  if (phase === current) return;
  current = phase;
  say(markSteps(phase).dataset.doing);
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
  const what = current === "launching" ? "Waiting for a free seat" : "Waiting for a builder";
  const where = queue.position ? `: number ${queue.position} in the queue` : "";
  const eta = queue.position && queue.eta_seconds != null ? `, about ${duration(queue.eta_seconds)}` : "";
  say(what + where + eta, what + where, queue.reason ?? "");
}

function startClock() {
  const clock = situation().querySelector(".clock");
  const startedAt = performance.now() - Number(clock.dataset.seconds) * 1000;
  const timer = setInterval(() => {
    if (!clock.isConnected || wasFinal) return clearInterval(timer);
    clock.textContent = duration((performance.now() - startedAt) / 1000);
  }, 1000);
}

/** Puts the server's own account of the launch in place of ours: it knows how it ended and what can be done. */
async function renew() {
  for (let tries = 0; tries < RENEWALS; tries++) {
    try {
      const reply = await fetch(location.pathname, { headers: { accept: "text/html" }, cache: "no-store" });
      if (reply.status === 401) { // the session has ended: the page itself says how to get in again
        location.reload();
        return;
      }
      const fresh = new DOMParser().parseFromString(await reply.text(), "text/html");
      const section = fresh.getElementById("situation");
      if (section?.dataset.final === "yes") {
        if (!failedToOpen && fresh.getElementById("launch").dataset.opens === "yes") {
          open();
          return;
        }
        const hadFocus = situation().contains(document.activeElement);
        situation().replaceWith(section);
        document.title = fresh.title;
        const headline = document.getElementById("headline");
        const detail = section.querySelector(".trouble")?.textContent ?? "";
        announcement.textContent = `${headline.textContent}. ${detail}`;
        if (hadFocus) headline.focus();
        return;
      }
    } catch {
      // The network is away for a moment: the next try may find it.
    }
    await new Promise((resolve) => setTimeout(resolve, 300 * (tries + 1)));
  }
}

function open() {
  failedToOpen = true; // should it come back here, it does not try again by itself
  current = "ready";
  markSteps("ready");
  say("Ready: opening the server");
  location.replace(`/launches/${encodeURIComponent(id)}/open`);
}

async function end(event) {
  if (wasFinal) return;
  wasFinal = true;
  if (event.phase === "ready" && event.url) open();
  else await renew();
}

function linkRawLog(buildId) {
  const link = document.getElementById("raw-log");
  link.href = `/api/v1/builds/${encodeURIComponent(buildId)}/log`;
  link.hidden = false;
}

function take(event) {
  if (event.build_id) linkRawLog(event.build_id);
  if (event.phase === "gap") {
    view.write(`\n… ${event.lines ?? "Some"} lines are missing here …\n`);
    return false;
  }
  if (["ready", "failed", "cancelled"].includes(event.phase)) {
    if (event.message && view.isEmpty) view.write(event.message); // else the log has said it already
    end(event);
    return true;
  }
  if (event.message && !event.queue) view.write(event.message); // a place in a queue is the headline's, not the log's
  if (wasFinal) return false;
  const phase = STEP_OF_PHASE[event.phase];
  if (event.phase === "waiting" && event.queue && current === "resolving") goTo("building");
  if (phase) goTo(phase);
  if (event.queue) showQueue(event.queue);
  else if (phase) say(steps().find((step) => step.dataset.phase === phase).dataset.doing);
  return false;
}

function connection(isUp) {
  const lost = situation().querySelector(".connection");
  if (lost) lost.hidden = isUp || wasFinal;
}

async function run() {
  if (page.dataset.opens === "yes") {
    open();
    return;
  }
  if (!wasFinal) {
    current = steps().find((step) => step.classList.contains("current"))?.dataset.phase ?? "";
    startClock();
  }
  try {
    await follow(`/api/v1/launches/${encodeURIComponent(id)}/events`, {
      onEvent: take, onConnection: connection, signal: done.signal,
    });
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    await renew();
  }
}

window.addEventListener("pagehide", () => done.abort());
window.addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});
run();
