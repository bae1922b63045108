// Make: pictures to order. They grow while one watches; stop keeps the best so far.
const making = { kind: "synthesize", target: "", preset: "fourier", steps: 128, octaves: 3, guide: "", seed: 0 };
const KINDS = [["synthesize", "Class or channel"], ["dream", "Deep Dream"], ["invert", "Inversion"]];

views.make = {
  title: "Make",
  show(panel) {
    if (needPhoto(panel)) return;
    const made = make("div.made"), run = runner("Make it", (told) => start2(told, made));
    panel.replaceChildren(heading("Make pictures", { synthesize: "A picture made from noise, step by step, for a class or a channel.", dream: "Your photograph, changed to amplify what a layer detects in it.", invert: "Pictures with nearly the same activations as your photograph: they show what each layer preserves and what it loses." }[making.kind]),
      make("div.controls", {}, choice("What", KINDS, making.kind, (kind) => { making.kind = kind; again(panel, () => views.make.show(panel)); }), ...makeOptions()), run, made);
  },
  leave: halt,
};

function makeOptions() {
  const set = (name) => (value) => (making[name] = value);
  if (making.kind === "invert") return [number("Steps", making.steps, 1, 1024, set("steps"))];
  if (making.kind === "dream") return [layerChoice(), number("Octaves", making.octaves, 1, 8, set("octaves")),
    choice("Guide", [["", "none"], ...photos.map((one) => [one.token, one.name])], making.guide, set("guide"))];
  const target = make("input", { type: "text", "aria-label": "Class or channel", value: wantedTarget(), list: "targets", onchange: () => { making.target = target.value.trim(); listed.value = making.target; if (listed.selectedIndex < 0) listed.value = ""; } });
  const names = make("datalist", { id: "targets" }, ...facts.labels.map((label, k) => make("option", { value: `class:${k}` }, label)));
  const named = choice("Class", [["", "as written →"], ...facts.labels.map((label, k) => [`class:${k}`, label])], wantedTarget(), (value) => { if (value) { making.target = value; target.value = value; } }), listed = named.querySelector("select");
  return [named, make("label.choice", {}, make("span", {}, "Class or channel"), target), names,
    choice("Preset", facts.presets.map(([name]) => name), making.preset, set("preset")), number("Steps", making.steps, 1, 4096, set("steps")), number("Seed", making.seed, 0, 99999, set("seed"))];
}

function layerChoice() {
  return choice("Layer", layerOptions(), state.layer, (layer) => go({ layer }));
}

// What was asked for last; before that, what the network says of the photograph.
const wantedTarget = () => making.target || `class:${photo.classes[0].number}`;

function start2(told, made) {
  made.replaceChildren();
  const options = { synthesize: { target: wantedTarget(), preset: making.preset, steps: making.steps, seed: making.seed },
    dream: { token: photo.token, layer: state.layer, octaves: making.octaves, guide: making.guide },
    invert: { token: photo.token, steps: making.steps } }[making.kind];
  return begin(making.kind, options, (answer) => {
    told(answer);
    if (answer.parts) made.replaceChildren(make("div.cards.small", {}, ...answer.parts.map((part) => picture(part.picture, part.label.replace(":", " "), ""))));
    else if (answer.picture) growing(made, answer);
    if (answer.done) made.append(keeping(answer.key, ...(making.kind === "invert" ? [".png", ".json"] : [".png", ".gif", ".json"])), answer.code ? code(answer.code) : "");
  });
}

function growing(made, answer) {
  let image = made.querySelector("img.large");
  if (!image || answer.done) made.replaceChildren((image = make("img.large", { alt: answer.words || "A picture in progress" })));
  image.src = answer.picture;
}
