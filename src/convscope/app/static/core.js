// Small words for making pages, and asking the server. Every file of this folder shares one scope.
const root = element.querySelector(".convscope");
const facts = props.facts;
const views = {}; // name of a tab -> {title, show(panel), key(event), leave()}

// make("p.note", {title: "…"}, "words", otherElement)
function make(what, attributes = {}, ...inside) {
  const [name, ...classes] = what.split(".");
  const made = document.createElement(name || "div");
  if (classes.length) made.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...inside.filter((part) => part !== null && part !== undefined && part !== ""));
  return made;
}

// A probability in percent; of a network whose scores have none, the score.
const amount = (one) => (one.share === null ? one.score.toPrecision(3) : percent(one.share));
const percent = (share) => (share >= 0.0995 ? Math.round(100 * share) : (100 * share).toFixed(1)) + "%";
const short = (value) => (Math.abs(value) >= 100 ? value.toFixed(0) : Math.abs(value) >= 1 ? value.toFixed(2) : value.toFixed(3));

// What the server says of a photograph that others, or a new start of the server, have pushed out.
const FORGOTTEN = "This photograph is no longer stored here";

// Asks the server; a mistake is shown as one sentence and gives null.
async function ask(name, sent = {}, told = complain) {
  busy(1);
  try {
    let found = await server[name](sent);
    if (found?.error?.startsWith(FORGOTTEN) && await broughtAgain(sent.token)) found = await server[name](sent);
    if (!found) return complain(await refused("The server refused this: it arrived too slowly, was too large, or the server received too much at once. Please try again."));
    return found.error ? told(found.error) : found;
  } finally {
    busy(-1);
  }
}

// Gradio's client keeps to itself why it got no answer, so the server is asked for something small.
async function refused(otherwise) {
  try {
    const { status } = await fetch(new URL("gradio_api/app_id", document.baseURI));
    return status === 401 ? "You are no longer signed in; reload the page." : otherwise;
  } catch {
    return "The server cannot be reached: it was stopped, or the connection was lost. Try again later, or reload the page.";
  }
}

let running = 0;
function busy(change) {
  running += change;
  root.toggleAttribute("data-busy", running > 0);
}

function complain(sentence) {
  const place = root.querySelector(".complaint");
  place.textContent = sentence;
  place.hidden = false;
  clearTimeout(complain.timer);
  complain.timer = setTimeout(() => (place.hidden = true), 12000);
  return null;
}

function calm() {
  root.querySelector(".complaint").hidden = true;
}

// Runs only the last of many calls, and never two at once.
function latest(work) {
  let waiting = null, working = false;
  return async function next(...given) {
    waiting = given;
    if (working) return;
    working = true;
    try {
      while (waiting) {
        const now = waiting;
        waiting = null;
        await work(...now);
      }
    } finally {
      working = false;
    }
  };
}

// The library call that makes a picture, with the lines that it needs, to be copied.
function code(call) {
  const text = [...needed(call), call].join("\n"), words = make("code", {}, text);
  const copy = make("button.quiet", { type: "button", onclick: async () => {
    copy.textContent = (await copied(text, words)) ? "copied" : "selected";
    setTimeout(() => (copy.textContent = "copy"), 1500);
  } }, "copy");
  return make("details.code", {}, make("summary", {}, "The code for this"), make("div", {}, words, copy));
}

// Browsers hand the clipboard to encrypted pages only; elsewhere the text is selected and copied the old way.
async function copied(text, words) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection().selectAllChildren(words);
    return document.execCommand("copy");
  }
}

function needed(call) {
  const named = (one) => JSON.stringify(one?.sample ? `sample:${one.sample}` : one?.name);
  const lines = { net: `convscope.load(${JSON.stringify(facts.spec || "the network of this app")})`, survey: 'convscope.open_survey("survey")',
    photo: named(photo), guide: named(photos.find((one) => one.token === making.guide)) };
  return ["import convscope", ...Object.keys(lines).filter((name) => new RegExp(`[(, ]${name}[,)]`).test(call)).map((name) => `${name} = ${lines[name]}`)];
}

function choice(label, options, value, onchange) {
  const list = make("select", { "aria-label": label, onchange: () => onchange(list.value) },
    ...options.map((option) => {
      const [key, words] = Array.isArray(option) ? option : [option, option];
      return make("option", { value: key, selected: key === value }, words);
    }));
  return make("label.choice", {}, make("span", {}, label), list);
}

function slider(label, options, oninput) {
  const input = make("input", { type: "range", "aria-label": label, ...options, oninput: () => oninput(Number(input.value)) });
  return make("label.slide", {}, make("span", {}, label), input);
}

function button(words, onclick, kind = "") {
  return make("button" + kind, { type: "button", onclick }, words);
}

function number(label, value, low, high, onchange) {
  const input = make("input", { type: "number", "aria-label": label, value, min: low, max: high, onchange: () => {
    if (!input.value || !input.checkValidity()) {
      complain(`${label} must be an integer from ${low} to ${high}.`);
      return (input.value = value);
    }
    onchange((value = Number(input.value)));
  } });
  return make("label.choice", {}, make("span", {}, label), input);
}
