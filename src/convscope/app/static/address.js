// What is looked at stands in the address behind the #, so that a link opens the same view.
const state = { model: facts.model, tab: "look", layer: "", channel: 0, target: "predicted", photo: "" };
const NAMED = Object.keys(state);

// Gives a sentence where the link does not fit.
function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const name of NAMED) if (given.has(name)) state[name] = given.get(name);
  state.channel = Math.max(0, Math.trunc(Number(state.channel)) || 0);
  if (!views[state.tab]) state.tab = "look";
  if (!facts.stages.some((stage) => stage.layer === state.layer)) state.layer = given.get("layer") || firstLayer();
  const other = state.model !== facts.model && `This link was made for ${state.model}, but this app shows ${facts.model}.`;
  state.model = facts.model;
  return other || "";
}

function firstLayer() {
  const middle = facts.stages[Math.floor(facts.stages.length / 2)];
  return middle ? middle.layer : "stage:1";
}

function writeAddress(fresh = false) {
  const kept = new URLSearchParams();
  for (const name of NAMED) if (state[name] !== "" && state[name] !== null) kept.set(name, state[name]);
  const address = "#" + kept.toString().replaceAll("%3A", ":");
  if (address === location.hash) return;
  if (fresh) history.pushState(null, "", address);
  else history.replaceState(history.state, "", address);
}

// Changes what is looked at; a change of tab is a step that the back button takes back.
function go(changes) {
  const tab = changes.tab && changes.tab !== state.tab;
  Object.assign(state, changes);
  writeAddress(tab);
  if (!tab) return;
  showTab();
  scrollTo(0, 0);
}

const SAMPLES = ["china", "flower"];

// The back button, or a link that was written into the same tab.
window.addEventListener("popstate", async () => {
  state.photo = photo?.sample || "";
  const warning = readAddress();
  if (SAMPLES.includes(state.photo) && state.photo !== photo?.sample) await sample(state.photo);
  else showTab();
  if (warning) complain(warning);
});
