// What is nicer with JavaScript: a job's page that follows it without reloading, and the meter on the naive page.
"use strict";

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// --- a job's page -------------------------------------------------------------------------------------------------

async function follow(job) {
  while (!("finished" in job.dataset)) {
    await pause(300);
    let seen;
    try {
      const response = await fetch(job.dataset.status, { headers: { Accept: "application/json" } });
      if (!response.ok) return;
      seen = await response.json();
    } catch {
      await pause(1000); // the server restarts: the job does not mind
      continue;
    }
    if (seen.version !== job.dataset.version || seen.finished) replace(job, seen);
    else if (seen.percent !== null) move(job, seen);
  }
}

function move(job, seen) {
  const bar = job.querySelector("progress");
  const message = job.querySelector("[data-message]");
  if (!bar) return;
  bar.max = 100;
  bar.value = seen.percent;
  message.textContent = `${seen.message}, ${Math.round(seen.percent)} %`;
}

function replace(job, seen) {
  const hadFocus = job.contains(document.activeElement);
  job.innerHTML = seen.html;
  job.dataset.version = seen.version;
  if (seen.finished) job.dataset.finished = "";
  document.title = document.title.replace(/^[^:]*/, seen.title);
  document.getElementById("said").textContent = seen.title;
  if (hadFocus) job.querySelector("h1").focus();
}

// --- the meter ----------------------------------------------------------------------------------------------------

const KEPT = 200; // pings, one each 100 ms: twenty seconds

const marks = []; // where buttons were pressed: { at: the number of pings before it, place: its element }
let pings = 0;

function mark(what) {
  const place = document.createElement("span");
  place.textContent = what;
  place.className = what;
  document.querySelector("#pulse .marks").append(place);
  marks.push({ at: pings, place });
}

function moveMarks() {
  const first = Math.max(0, pings - KEPT);
  for (const { at, place } of marks) place.style.left = `${((at - first) * 100) / (KEPT - 1)}%`;
}

async function measure(meter) {
  const line = meter.querySelector("polyline");
  const now = meter.querySelector("[data-now]");
  const worst = meter.querySelector("[data-worst]");
  const found = [];
  meter.hidden = false;
  for (;;) {
    const begun = performance.now();
    try {
      await fetch(meter.dataset.ping, { cache: "no-store" });
    } catch {
      await pause(1000);
      continue;
    }
    const took = performance.now() - begun;
    found.push(took);
    if (found.length > KEPT) found.shift();
    pings += 1;
    moveMarks();
    now.textContent = words(took);
    worst.textContent = words(Math.max(...found));
    line.setAttribute("points", found.map((ms, n) => `${(n * 600) / (KEPT - 1)},${height(ms)}`).join(" "));
    await pause(Math.max(0, 100 - took));
    if (document.hidden) await pause(1000);
  }
}

// One millisecond at the bottom, a second at the top; a factor of ten is a third of the height.
const height = (ms) => (96 - 32 * Math.min(3, Math.max(0, Math.log10(ms)))).toFixed(1);
const words = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

async function watchThreads(place) {
  for (;;) {
    await pause(250);
    try {
      const { computing } = await (await fetch(place.dataset.threads)).json();
      place.textContent = computing === 0 ? "" : `${computing} bare ${computing === 1 ? "thread computes" : "threads compute"} in the server; how far, nobody knows`;
    } catch {
      place.textContent = "";
    }
  }
}

// --- buttons that say how long the answer took --------------------------------------------------------------------

async function ask(form, submitter) {
  const said = form.querySelector("output");
  const body = new FormData(form, submitter);
  mark(form.dataset.measure);
  said.textContent = "waiting for the answer …";
  const begun = performance.now();
  try {
    const response = await fetch(form.action, { method: "POST", body, headers: { Accept: "text/plain" } });
    const took = words(performance.now() - begun);
    if (response.redirected) {
      said.innerHTML = `answered after ${took}: <a></a>`;
      said.querySelector("a").textContent = "the job’s page";
      said.querySelector("a").href = response.url;
    } else {
      said.textContent = `after ${took}: “${response.ok ? await response.text() : response.statusText}”`;
    }
  } catch {
    said.textContent = "the server did not answer";
  }
}

// --- where to begin -----------------------------------------------------------------------------------------------

const job = document.getElementById("job");
if (job) follow(job);

const meter = document.getElementById("pulse");
if (meter) {
  measure(meter);
  watchThreads(meter.querySelector("[data-threads]"));
}

for (const form of document.querySelectorAll("form[data-measure]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask(form, event.submitter);
  });
}
