// Look: what the network says, and where in the photograph the evidence lies.
const shown = { method: "gradcam", opacity: 0.55, grey: false };

views.look = {
  title: "Look",
  async show(panel) {
    if (needPhoto(panel)) return;
    const cards = make("div.cards", {}, waiting("Looking for the evidence…"));
    const section = make("section.section"), sentence = make("p.trust", { "aria-live": "polite" });
    panel.replaceChildren(
      heading("Where the evidence lies", "Bright places are what made the network say so. Left the class you chose, right its strongest rival."),
      make("div.controls", {},
        choice("Method", facts.methods, shown.method, (value) => { shown.method = value; fill(cards, sentence); }),
        choice("Class", classes(), state.target, (value) => { go({ target: value }); drawPhoto(); fill(cards, sentence); }),
        slider("Heat", { min: 0, max: 100, value: 100 * shown.opacity }, (value) => { shown.opacity = value / 100; fade(panel); }),
        make("label.tick", {}, make("input", { type: "checkbox", checked: shown.grey, onchange: (event) => { shown.grey = event.target.checked; fade(panel); } }), "grey photograph")),
      cards, sentence, section);
    fade(panel);
    strongest(section);
    await fill(cards, sentence);
  },
};

function classes() {
  const all = facts.labels.map((label, number) => [`class:${number}`, label]);
  return [["predicted", `predicted: ${photo.classes[0].label}`], ...all];
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
  section.replaceChildren(make("h3", {}, "The channels that answer most"),
    make("p", {}, "Deep in the network, each channel looks for something of its own. Open one to see what."),
    make("div.cards.small", {}, ...found.channels.map((one) => make("button.card.opens", { type: "button", onclick: () => go({ layer: found.layer, channel: one.channel, tab: "channel" }) },
      make("div.photo", {}, make("img.view", { src: photo.view, alt: "" }), make("img.over", { src: one.heat, alt: `Where channel ${one.channel} answers` })), make("span", {}, `channel ${one.channel} ›`)))));
});

const fill = latest(async (cards, sentence) => {
  sentence.textContent = "";
  const first = chosen(), second = photo.classes.find((one) => one.number !== first.number);
  const pair = [first, second].filter(Boolean), about = photo;
  const found = await Promise.all(pair.map((one) => ask("evidence", { token: about.token, method: shown.method, target: `class:${one.number}` })));
  if (about !== photo || !cards.isConnected) return;
  cards.replaceChildren(...pair.map((one, place) => found[place] ? layered(found[place], `For ${one.label}`, one.share === undefined ? "" : `The network gives it ${percent(one.share)}.`) : ""));
  const checked = await ask("check", { token: about.token, method: shown.method, target: `class:${first.number}` });
  if (checked && about === photo) sentence.replaceChildren(make("b", {}, checked.holds ? "The map holds. " : "Take this map with care. "), checked.sentence);
});

function chosen() {
  const number = state.target.startsWith("class:") ? Number(state.target.slice(6)) : photo.classes[0].number;
  return photo.classes.find((one) => one.number === number) || { number, label: facts.labels[number] || `class ${number}` };
}
