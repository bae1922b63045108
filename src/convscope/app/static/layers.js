// Layers: a slider through the network; every channel of the layer at once.
const sorted = { by: "index" };
let sheet = null, cursor = null;

views.layers = {
  title: "Layers",
  async show(panel) {
    if (needPhoto(panel)) return;
    const last = facts.stages.length - 1;
    const words = make("p.read", { "aria-live": "polite" }), place = make("div.tiles"), title = make("h2");
    const range = slider("Depth", { min: 0, max: last, value: stageNumber(), step: 1 }, (value) => goStage(value));
    const list = choice("Layer", layerOptions(described), state.layer, goLayer);
    const order = choice("Order", [["index", "by number"], ["mean", "strongest first"], ["most", "highest peak first"]], sorted.by, (value) => { sorted.by = value; arrange(sheet, value); });
    const codes = make("div");
    panel.replaceChildren(make("header", {}, title, make("p", {}, "Each tile is one channel, bright where it is active. Hover over a tile to see the receptive field of that cell on the photograph.")),
      make("div.controls", {}, range, list, order), words, place, codes);
    panel.parts = { words, place, title, range: range.querySelector("input"), list: list.querySelector("select"), codes };
    await draw(panel);
  },
  key(event) {
    const panel = root.querySelector(".panel"), step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -sheet?.across, ArrowDown: sheet?.across }[event.key];
    if (document.activeElement === sheet?.canvas) return moveCursor(step, event);
    if (event.key === "ArrowLeft" || event.key === "ArrowRight") goStage(stageNumber() + step, panel);
  },
};

const described = (stage) => `${stage.layer.replace(":", " ")} · ${stage.kind === "pooling" ? "pool" : "conv"} ${stage.channels} × ${stage.height}×${stage.width}`;
const depths = {}; // layer that is no stage -> the stage that it is part of, once the server said so
const stageNumber = () => depths[state.layer] ?? Math.max(0, facts.stages.findIndex((stage) => stage.layer === state.layer));

// The stages, and the layer that is looked at where it is none of them.
function layerOptions(words = (stage) => stage.layer.replace(":", " ")) {
  const known = facts.stages.map((stage) => [stage.layer, words(stage)]);
  return known.some(([layer]) => layer === state.layer) ? known : [...known, [state.layer, state.layer.replace(":", " ")]];
}

function goStage(number) {
  goLayer(facts.stages[Math.max(0, Math.min(facts.stages.length - 1, number))]?.layer);
}

function goLayer(layer) {
  if (!layer || layer === state.layer) return;
  go({ layer });
  if (state.tab === "layers") draw(root.querySelector(".panel"));
}

const draw = latest(async (panel) => {
  const layer = state.layer, about = photo, { parts } = panel;
  performance.mark("sheet-asked");
  const found = await ask("sheet", { token: about.token, layer });
  if (!found || about !== photo || !parts.place.isConnected) return;
  const stage = facts.stages.find((one) => one.layer === layer);
  sheet = sheetOf(found, { words: parts.words, open: (k) => go({ channel: k, tab: views.channel ? "channel" : state.tab }),
    resting: found.sees?.whole ? `Receptive field: local ${found.sees.y.size} x ${found.sees.x.size} pixels; ${found.sees.whole}.` : found.sees ? `The receptive field of this layer is ${reach(found.sees)} pixels.` : "The receptive field of this layer is the whole photograph." });
  if (!stage) depths[layer] = found.depth;
  await sheet.ready;
  parts.place.replaceChildren(sheet.canvas);
  arrange(sheet, sorted.by);
  cursor = null;
  performance.mark("sheet-drawn");
  parts.place.dataset.layer = layer;
  parts.title.textContent = `${layer.replace(":", " ")}: ${found.mean.length} channels`;
  parts.words.textContent = sheet.resting;
  parts.range.value = stageNumber();
  parts.list.value = layer;
  parts.codes.replaceChildren(code(found.code));
});

const reach = ({ y, x }) => (y.size === x.size ? y.size : `${y.size} by ${x.size}`);

function moveCursor(step, event) {
  if (event.key === "Enter" && cursor !== null) return sheet.open(sheet.order[cursor]);
  if (!step) return;
  event.preventDefault();
  cursor = Math.max(0, Math.min(sheet.order.length - 1, (cursor ?? -1) + step));
  const [rows, columns] = sheet.found.grid;
  point(sheet, { channel: sheet.order[cursor], place: cursor, row: rows >> 1, column: columns >> 1 }, "Press Enter");
  mark(sheet, cursor);
}

addEventListener("resize", () => { if (sheet && sheet.canvas.isConnected) layOut(sheet); });
