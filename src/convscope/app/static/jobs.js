// What takes long runs in the server's queue and tells how far it is. One at a time a page.
const ANSWERS = 15000, ENDS = 5000; // milliseconds: how long a job's first and its last words are waited for
let job = null; // what the page waits for: {name, told, ended, answered, halted}
let asked = null; // what the server was asked for last: a job, and its end as a promise
const pause = (time) => new Promise((done) => setTimeout(done, time));

function begin(kind, options, told) {
  halt();
  if (job) finish({});
  return new Promise(async (ended) => {
    const mine = (job = { name: crypto.randomUUID?.() || String(Math.random()), told, ended });
    await Promise.race([asked?.end, pause(ENDS)]); // of two jobs that answer at once, one would not be heard
    if (job !== mine) return;
    asked = mine;
    mine.end = new Promise((over) => (mine.over = over));
    const first = appId();
    trigger("job", { ask: { kind, job: mine.name, ...options } });
    await pause(ANSWERS);
    if (job === mine && !mine.answered) { halt(); complain(await refused("The server is busy; please try again in a minute.")); }
    for (; job === mine; await pause(ANSWERS)) { // a server that was stopped says no last word
      if (await appId() === await first || job !== mine) continue;
      finish({});
      complain(await refused("The server was restarted, so this was lost; please start it again."));
    }
  });
}

const appId = async () => (await fetch(new URL("gradio_api/app_id", document.baseURI)).then((answer) => answer.json()).catch(() => ({}))).app_id;

watch("value", () => {
  const answer = props.value;
  if (answer?.done && answer.job === asked?.name) asked.over();
  if (!job || !answer || answer.job !== job.name) return;
  job.answered = true;
  if (!answer.error) job.told(answer);
  else if (answer.error !== "Stopped.") complain(answer.error);
  if (answer.done) finish(answer);
});

function finish(answer) {
  const { ended } = job;
  job = null;
  ended(answer);
}

// Ends what runs after its step; the server keeps the best so far. What has not answered has nothing to keep.
function halt() {
  if (!job) return;
  server.stop({ job: job.name }).catch(() => {});
  if (!job.answered || job.halted) finish({});
  else job.halted = true;
}

// A bar that fills, a button to start and one to stop.
function runner(words, start) {
  const bar = make("progress", { max: 1, value: 0, hidden: true, "aria-label": "Progress" });
  const line = make("span.soft", { "aria-live": "polite" });
  const stop = button("Stop", halt, ".act");
  stop.hidden = true;
  const go = button(words, async () => {
    calm();
    swap(go, stop);
    bar.hidden = false;
    bar.removeAttribute("value");
    line.textContent = "waiting for a free slot…";
    await start((answer) => {
      if (!answer.steps) { if (!bar.hasAttribute("value")) line.textContent = "working…"; return; }
      bar.value = answer.step / answer.steps;
      line.textContent = `step ${answer.step} of ${answer.steps}`;
    });
    swap(stop, go);
    bar.hidden = true;
    line.textContent = "";
  }, ".act.main");
  return make("div.runner", {}, go, stop, bar, line);
}

// One button in the place of another, for the keyboard too.
function swap(gone, come) {
  const held = document.activeElement === gone;
  gone.hidden = true; come.hidden = false;
  if (held) come.focus();
}

async function keep(key, suffix) {
  const found = await ask("download", { key, suffix });
  if (found) make("a", { href: found.uri, download: found.name }).click();
}

function keeping(key, ...suffixes) {
  const named = { ".png": "picture", ".gif": "timelapse (GIF)", ".json": "recipe" };
  return make("p.keep", {}, "Save: ", ...suffixes.flatMap((suffix) => [button(named[suffix], () => keep(key, suffix), ".link"), " "]));
}
