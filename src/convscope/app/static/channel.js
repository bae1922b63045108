// Channel: one unit; its map, what drives it here, and what it wants to see.
views.channel = {
  title: "Channel",
  async show(panel) {
    if (needPhoto(panel)) return;
    const title = make("h2"), words = make("p"), map = make("div"), drive = make("div"), want = make("div"), more = make("div");
    panel.replaceChildren(make("header", {}, title, words), channelControls(), make("div.cards", {}, map, drive, want), more);
    panel.parts = { title, words, map, drive, want, more };
    await drawUnit(panel);
  },
  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key], depth = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (step) goUnit({ channel: nextTo(step) });
    const stage = depth && facts.stages[stageNumber() + depth];
    if (stage) { event.preventDefault(); goUnit({ layer: stage.layer, channel: Math.min(state.channel, stage.channels - 1) }); }
  },
};

function channelControls() {
  const layer = make("input", { type: "text", "aria-label": "Layer", list: "addresses", value: state.layer, onchange: () => goUnit({ layer: layer.value.trim(), channel: 0 }) });
  const names = make("datalist", { id: "addresses" }, ...facts.addresses.slice(0, 400).map((name) => make("option", { value: name })));
  return make("div.controls", {}, make("label.choice", {}, make("span", {}, "Layer"), layer), names,
    number("Channel", state.channel, 0, lastChannel(), (value) => goUnit({ channel: value })),
    button("‹ previous", () => goUnit({ channel: nextTo(-1) })),
    button("next ›", () => goUnit({ channel: nextTo(1) })));
}

const counts = {}; // layer -> how many channels it has, once that is known
const lastChannel = () => (counts[state.layer] ?? facts.stages.find((stage) => stage.layer === state.layer)?.channels ?? 1e5) - 1;
const nextTo = (step) => Math.max(0, Math.min(lastChannel(), state.channel + step));

function goUnit(changes) {
  if (Object.entries(changes).every(([name, value]) => state[name] === value)) return;
  go(changes);
  showTab();
}

const drawUnit = latest(async (panel) => {
  const asked = { token: photo.token, layer: state.layer, channel: state.channel }, { parts } = panel;
  const same = () => parts.title.isConnected && asked.layer === state.layer && asked.channel === state.channel && asked.token === photo.token;
  parts.title.textContent = `Channel ${state.channel} of ${state.layer.replace(":", " ")}`;
  const found = await ask("unit", asked);
  if (found) counts[asked.layer] = found.count;
  if (!found || !same()) return;
  parts.words.textContent = unitWords(found);
  parts.map.replaceChildren(layered(found, "Activation map", `Maximum ${short(found.most)}, mean ${short(found.mean)}. The frame on the photograph is the receptive field of its strongest cell.`));
  if (found.most > 0) frame(...found.box, found.sees ? `${found.whole ? "Local r" : "R"}eceptive field of its strongest cell` : "Its strongest cell sees the whole photograph");
  parts.want.replaceChildren(wanted(asked));
  parts.more.replaceChildren(histogram(found), alike(found));
  if (facts.survey) surveyed(parts.more, asked, same);
  parts.drive.replaceChildren(waiting("Projecting it back to the pixels…"));
  const driven = await ask("projection", asked);
  if (driven && same()) parts.drive.replaceChildren(picture(driven.picture, "What drives it here",
    driven.picture ? `The projection of this channel to the pixels (DeconvNet). Grey is zero. ${driven.note}` : driven.words, driven.code, driven.words));
});

function unitWords(found) {
  if (!(found.most > 0)) return "It is not active on this photograph.";
  return `On this photograph it ranks ${found.rank} of ${found.count} by activation, and ${percent(found.active)} of its cells are active.`;
}

function picture(address, title, words, call, alt) {
  return make("figure.card", {}, make("div.photo", {}, address ? make("img", { src: address, alt: alt || title }) : ""),
    make("figcaption", {}, make("h3", {}, title), make("p", {}, words), call ? code(call) : ""));
}

// Made when asked for, since it takes seconds; kept by the server for the next time.
function wanted(asked) {
  const image = make("img", { alt: "", hidden: true }), after = make("div");
  const words = make("p", {}, "A picture made from noise, step by step, to activate the channel as strongly as possible.");
  const control = runner("Make it", (told) => {
    image.hidden = true;
    after.replaceChildren();
    return begin("synthesize", { target: `${asked.layer}:${asked.channel}` }, (answer) => {
      told(answer);
      if (answer.picture) { image.src = answer.picture; image.hidden = false; image.alt = answer.words || "A picture in progress"; }
      if (answer.done) after.replaceChildren(keeping(answer.key, ".png", ".gif", ".json"), answer.code ? code(answer.code) : "");
    });
  });
  return make("figure.card", {}, make("div.photo", {}, make("p.none", {}, "not made yet"), image), make("figcaption", {}, make("h3", {}, "A picture made for it"), words, control, after));
}

function histogram(found) {
  return make("figure.chart", {}, make("figcaption", {}, make("h3", {}, "Distribution of its values"), make("p.soft", {}, `Over the cells of this photograph, from ${short(found.least)} to ${short(found.most)}.`)),
    columns(found.histogram, `Histogram from ${short(found.least)} to ${short(found.most)}`));
}

// What a survey of many photographs adds.
async function surveyed(place, asked, same) {
  const found = await ask("surveyed", asked, (missing) => ({ missing }));
  if (!found || !same()) return;
  if (found.missing) return place.prepend(make("section.section", {}, make("h3", {}, "In many photographs"), make("p.soft", {}, found.missing)));
  const photographs = `${found.photographs} photographs`;
  const rows = [["The patches that activate it most", found.patches]];
  if (found.driven) rows.push(["What in them drives it", found.driven]);
  place.prepend(make("section.section", {}, make("h3", {}, "In many photographs"),
    make("p", {}, found.state === "alive" ? `Of ${photographs}, those that activate it most, cropped to the receptive field (${found.layer.replace(":", " ")}).` : `On ${photographs} it is ${found.state}.`),
    ...rows.flatMap(([title, sprites]) => [make("h4", {}, title), patchRow(sprites, found.captions)]),
    found.classes.length ? make("div.half", {}, make("h4", {}, "The classes it prefers"), plainBars(found.classes)) : "", spread(found.histogram),
    code(found.code)));
}

// Heights grow with the logarithm, so that a single one can still be seen.
function columns(counts, words) {
  const top = Math.log1p(Math.max(...counts));
  return make("div.columns", { role: "img", "aria-label": words },
    ...counts.map((count) => make("i", { title: String(count), style: `height:${count ? Math.max(3, 100 * Math.log1p(count) / top) : 0}%` })));
}

function spread(counts) {
  const used = counts.map((count, place) => (count ? place : -1)).filter((place) => place > 0);
  const shown = used.length ? counts.slice(used[0], used.at(-1) + 1) : [];
  return make("figure.chart", {}, make("figcaption", {}, make("h4", {}, "Its strongest activation in each photograph"),
    make("p.soft", {}, `From weak to strong, on a logarithmic scale; ${counts[0]} photographs do not activate it.`)), shown.length ? columns(shown, "Histogram of its strongest activations") : "");
}

function patchRow(sprites, captions) {
  const picture = new Image(), row = make("div.patches");
  picture.onload = () => row.replaceChildren(...captions.map((words, k) => {
    const canvas = make("canvas", { width: sprites.width, height: sprites.height, role: "img", "aria-label": words });
    canvas.getContext("2d").drawImage(picture, -(k % sprites.columns) * sprites.width, -Math.floor(k / sprites.columns) * sprites.height);
    return make("figure", {}, canvas, make("figcaption", {}, words));
  }));
  picture.src = sprites.uri;
  return row;
}

const plainBars = (classes) => make("ol.bars", {}, ...classes.map((one) => make("li.bar", {}, make("span.label", { title: one.label }, one.label),
  make("span.track", {}, make("i", { style: `width:${(100 * one.share).toFixed(1)}%` })), make("span.share", {}, amount(one)))));

function alike(found) {
  return make("div.alike", {}, make("h3", {}, "Similar channels"), make("p.soft", {}, "Channels of this layer that are active at the same positions of this photograph."),
    make("p", {}, ...found.neighbours.flatMap((k) => [button(`channel ${k}`, () => goUnit({ channel: k }), ".act"), " "])),
    facts.survey ? "" : make("p.soft", {}, "Start the app with a survey to see here its strongest patches in a data set and the classes it prefers: convscope app --survey FOLDER."));
}
