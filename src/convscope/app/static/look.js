// Look: what the network says, and where in the photograph the evidence lies.
const shown = { method: "gradcam", opacity: 0.55, grey: false };

views.look = {
  title: "Look",
  async show(panel) {
    if (needPhoto(panel)) return;
    const parts = { slow: make("div"), cards: make("div.cards", {}, waiting("Looking for the evidence…")), sentence: make("p.trust", { "aria-live": "polite" }) };
    const section = make("section.section");
    panel.replaceChildren(
      heading("Where the evidence is", "Bright regions support the prediction. Left the class you chose, right its strongest rival, in one scale."),
      make("div.controls", {},
        choice("Method", facts.methods, shown.method, (value) => { shown.method = value; fill(parts); }),
        choice("Class", classes(), state.target === "predicted" ? state.target : targetOf(chosen()), (value) => { go({ target: value }); drawPhoto(); fill(parts); }),
        slider("Heat", { min: 0, max: 100, value: 100 * shown.opacity }, (value) => { shown.opacity = value / 100; fade(panel); }),
        make("label.tick", {}, make("input", { type: "checkbox", checked: shown.grey, onchange: (event) => { shown.grey = event.target.checked; fade(panel); } }), "grey photograph")),
      parts.slow, parts.cards, parts.sentence, section);
    fade(panel);
    strongest(section);
    await fill(parts);
  },
  leave: halt,
};

function classes() {
  const all = facts.labels.map((label, number) => [`class:${number}`, label]);
  const target = targetOf(chosen()), other = all.some(([key]) => key === target) ? [] : [[target, target]];
  return [["predicted", `predicted: ${photo.classes[0].label}`], ...other, ...all];
}

// Opacity is the browser's own work: no question to the server.
function fade(panel) {
  panel.style.setProperty("--opacity", shown.opacity);
  panel.classList.toggle("grey", shown.grey);
}

// The way on: what the network's strongest channels look for.
const strongest = latest(async (section) => {
  const about = photo, found = await ask("strongest", { token: about.token });
  if (!found || about !== photo || !section.isConnected) return;
  section.replaceChildren(make("h3", {}, "The most active channels"),
    make("p", {}, "Deep in the network, each channel responds to something different. Open one to see what."),
    make("div.cards.small", {}, ...found.channels.map((one) => make("button.card.opens", { type: "button", onclick: () => go({ layer: found.layer, channel: one.channel, tab: "channel" }) },
      make("div.photo", {}, make("img.view", { src: photo.view, alt: "" }), make("img.over", { src: one.heat, alt: `Where channel ${one.channel} is active` })), make("span", {}, `channel ${one.channel} ›`)))));
});

// Old maps never stand under a new name: they go at once, or when the new ones take a moment.
async function fill(parts) {
  halt();
  parts.slow.replaceChildren();
  parts.sentence.textContent = "";
  if (facts.long.includes(shown.method)) return slowly(parts);
  const late = setTimeout(() => parts.cards.replaceChildren(waiting("Looking for the evidence…")), 150);
  await quickly(parts);
  clearTimeout(late);
}

const quickly = latest(async (parts) => {
  const same = unchanged(parts), pair = rivals();
  const found = await Promise.all(pair.map((one, place) => ask("evidence", { token: photo.token, method: shown.method, target: targetOf(one), beside: pair[1 - place] ? targetOf(pair[1 - place]) : "" })));
  if (!same()) return;
  drawEvidence(parts, found, pair);
  checkOf(parts, pair[0], same);
});

const checkOf = latest(async (parts, one, same) => {
  const checked = same() && await ask("check", { token: photo.token, method: shown.method, target: targetOf(one) });
  if (checked && same()) trusted(parts, checked);
});

// A method that takes long tells how far it is, and can be stopped.
function slowly(parts) {
  const pair = rivals(), [target, rival] = pair.map(targetOf), about = { token: photo.token, method: shown.method, target, rival };
  const run = runner("Look for the evidence", (told) => begin("explain", about, (answer) => {
    told(answer);
    if (answer.maps) drawEvidence(parts, answer.maps, pair);
    if (answer.checked) trusted(parts, answer.checked);
    if (answer.done) parts.slow.replaceChildren();
  }));
  parts.cards.replaceChildren();
  parts.slow.replaceChildren(run);
  run.querySelector("button").click();
}

function unchanged(parts) {
  const about = photo, asked = `${shown.method} ${targetOf(chosen())}`;
  return () => about === photo && parts.cards.isConnected && asked === `${shown.method} ${targetOf(chosen())}`;
}

function rivals() {
  const first = chosen();
  return [first, photo.classes.find((one) => one.number !== first.number)].filter(Boolean);
}

function drawEvidence(parts, found, pair) {
  parts.cards.replaceChildren(...found.map((one, place) => one ? layered(one, `For ${pair[place].label}`, pair[place].share === undefined ? "" : `Predicted with ${amount(pair[place])}.`) : make("p.empty", {}, `This method has no map for ${pair[place].label}.`)));
}

function trusted(parts, checked) {
  const verdict = checked.holds ? "The map passes the check. " : checked.checkable ? "Take this map with care. " : "";
  parts.sentence.replaceChildren(make("b", {}, verdict), checked.sentence);
}

// The class of the address by its number or its name; any other target, a channel say, as it is written.
function chosen() {
  const words = state.target === "predicted" ? `class:${photo.classes[0].number}` : state.target;
  const named = words.startsWith("class:") ? facts.labels.indexOf(words.slice(6)) : -1;
  const target = named >= 0 ? `class:${named}` : words, number = /^class:\d+$/.test(target) ? Number(target.slice(6)) : -1;
  return photo.classes.find((one) => one.number === number) || { number, target, label: facts.labels[number] || target };
}

const targetOf = (one) => one.target || `class:${one.number}`;
