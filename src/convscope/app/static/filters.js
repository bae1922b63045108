// Filters: the learnt weights, how noisy each is, and which repeat another.
const filtered = { layer: facts.convs[0]?.layer, inputs: "colour", by: "index" };

views.filters = {
  title: "Filters",
  async show(panel) {
    if (!facts.convs.length) return panel.replaceChildren(make("p.empty", {}, "This network has no convolutions, so there are no filters to show."));
    const conv = facts.convs.find((one) => one.layer === filtered.layer);
    const kinds = [["colour", conv.inputs === 3 ? "in colour" : "input channel 0"], ["norm", "norm over all inputs"],
      ...Array.from({ length: Math.min(conv.inputs, 64) }, (_, k) => [String(k), `input channel ${k}`])];
    const words = make("p.read"), place = make("div.tiles"), below = make("div");
    const change = (changes) => { Object.assign(filtered, changes); again(panel, () => views.filters.show(panel)); };
    panel.replaceChildren(
      heading(`The filters of ${filtered.layer.replace(":", " ")}`, conv.inputs === 3 ? "The patterns that the first layer detects. In a well-trained network they are edges in all directions and blobs of colour. Mid-grey is zero." : "Deeper filters take the channels of the layer before, so only one input channel can be shown at a time. Mid-grey is zero."),
      make("div.controls", {}, choice("Convolution", facts.convs.map((one) => [one.layer, `${one.layer.replace(":", " ")} · ${one.filters} filters`]), filtered.layer, (layer) => change({ layer, inputs: "colour" })),
        choice("Weights", kinds, filtered.inputs, (inputs) => change({ inputs })),
        choice("Order", [["index", "by number"], ["norm", "largest norm first"], ["noise", "noisiest first"]], filtered.by, (by) => change({ by }))),
      words, place, below);
    const found = await ask("weights", { layer: filtered.layer, inputs: filtered.inputs });
    if (!found || !place.isConnected) return;
    const drawn = sheetOf({ ...found, mean: found.norm, most: found.norm.map(() => 1), least: found.norm.map(() => 0), noise: found.noise.map((n) => n ?? 0), grid: [1, 1] },
      { words, resting: noiseWords(found), open: () => {}, tell: (k) => `Filter ${k}: norm ${short(found.norm[k])}${found.noise[k] === null ? "" : `, noise ${found.noise[k].toFixed(2)} (0 is smooth, 1 is random)`}.` });
    await drawn.ready;
    place.replaceChildren(drawn.canvas);
    words.textContent = drawn.resting;
    arrange(drawn, filtered.by);
    below.replaceChildren(repeats(found), code(found.code));
  },
};

function noiseWords(found) {
  const known = found.noise.filter((n) => n !== null);
  if (!known.length) return `${found.norm.length} filters of a single weight each.`;
  return `${known.filter((n) => n < 0.5).length} of ${known.length} filters are smooth; the others are closer to chance.`;
}

function repeats(found) {
  if (!found.repeated) return make("p.soft", {}, "No two filters are duplicates.");
  return make("p.soft", {}, `${found.repeated} pairs are nearly the same: `, found.pairs.map(([a, b, turn]) => `${a} and ${b}${turn ? ` turned by ${turn}°` : ""}`).join(", "), found.repeated > found.pairs.length ? ", …" : ".");
}
