// What takes long runs in the server's queue and tells how far it is. One at a time a page.
let job = null; // {name, told, ended}

function begin(kind, options, told) {
  halt();
  return new Promise(async (ended) => {
    const mine = { name: crypto.randomUUID?.() || String(Math.random()), told, ended };
    if (job) job.ended({});
    job = mine;
    if (!(await ask("enter", { job: mine.name })) || job !== mine) return ended({});
    trigger("job", { ask: { kind, job: mine.name, ...options } });
  });
}

watch("value", () => {
  const answer = props.value;
  if (!job || !answer || answer.job !== job.name) return;
  const { told, ended } = job;
  if (answer.error) { if (answer.error !== "Stopped.") complain(answer.error); }
  else told(answer);
  if (answer.done) { job = null; ended(answer); }
});

// Ends what runs after its step; the server keeps the best so far.
function halt() {
  if (job) server.stop({ job: job.name });
}

// A bar that fills, a button to start and one to stop.
function runner(words, start) {
  const bar = make("progress", { max: 1, value: 0, hidden: true, "aria-label": "How far it is" });
  const line = make("span.soft", { "aria-live": "polite" });
  const stop = button("Stop", halt, ".act");
  stop.hidden = true;
  const go = button(words, async () => {
    calm();
    go.hidden = true; stop.hidden = bar.hidden = false;
    bar.removeAttribute("value");
    line.textContent = "waiting for a free place…";
    await start((answer) => {
      if (!answer.steps) return;
      bar.value = answer.step / answer.steps;
      line.textContent = `step ${answer.step} of ${answer.steps}`;
    });
    go.hidden = false; stop.hidden = bar.hidden = true;
    line.textContent = "";
  }, ".act.main");
  return make("div.runner", {}, go, stop, bar, line);
}

async function keep(key, suffix) {
  const found = await ask("download", { key, suffix });
  if (found) make("a", { href: found.uri, download: found.name }).click();
}

function keeping(key, ...suffixes) {
  const named = { ".png": "picture", ".gif": "how it grew (GIF)", ".json": "recipe" };
  return make("p.keep", {}, "Keep: ", ...suffixes.flatMap((suffix) => [button(named[suffix], () => keep(key, suffix), ".link"), " "]));
}
