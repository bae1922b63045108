// Network: the layers as a strip and as a table, and a convolution at work.
let swept = null;

async function sweep(place) {
  const found = await ask("moving", { layer: swept });
  if (!found || !place.isConnected) return;
  const film = make("div.film");
  film.innerHTML = found.html; // made by the server from numbers alone
  place.replaceChildren(film, make("p.soft", {}, `Here over ${found.words}. Each output cell is the sum of the cells under the kernel times its weights.`), code(found.code));
}

views.network = {
  title: "Network",
  async show(panel) {
    panel.replaceChildren(waiting("Reading the layers…"));
    const found = await ask("strip", {});
    if (!found || state.tab !== "network") return;
    const strip = make("div.blocks", { role: "list", "aria-label": "The layers in order", tabindex: 0 }, ...found.boxes.map(block));
    const table = make("table", {}, make("thead", {}, make("tr", {}, ...found.columns.map((word) => make("th", { scope: "col" }, word)))),
      make("tbody", {}, ...found.rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", {}, cell))))));
    const moving = make("div");
    swept ??= facts.convs[0]?.layer ?? null;
    const choose = swept ? [make("h3", {}, "A convolution, animated"), make("div.controls", {}, choice("Convolution", facts.convs.map((one) => [one.layer, one.layer.replace(":", " ")]), swept, (layer) => { swept = layer; sweep(moving); })), moving] : [];
    panel.replaceChildren(heading("The network", found.intro), strip, ...choose, make("div.wide", { tabindex: 0 }, table), code(found.code));
    if (swept) sweep(moving);
  },
};

function block(box) {
  const layer = `stage:${box.label}`, known = facts.stages.some((stage) => stage.layer === layer);
  const drawn = make("i", { style: `height:${8 + 120 * box.height}px;width:${8 + 34 * box.width}px` });
  return make(`div.${box.kind}`, { role: "listitem" }, make("button", { type: "button", title: box.note, disabled: !known, onclick: () => go({ layer, tab: "layers" }) }, drawn, box.label), make("small", {}, box.shape));
}
