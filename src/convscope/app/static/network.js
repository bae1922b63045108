// Network: the layers as a strip and as a table.
views.network = {
  title: "Network",
  async show(panel) {
    panel.replaceChildren(waiting("Reading the layers…"));
    const found = await ask("strip", {});
    if (!found || state.tab !== "network") return;
    const strip = make("div.blocks", { role: "list", "aria-label": "The layers in order", tabindex: 0 }, ...found.boxes.map(block));
    const table = make("table", {}, make("thead", {}, make("tr", {}, ...found.columns.map((word) => make("th", { scope: "col" }, word)))),
      make("tbody", {}, ...found.rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", {}, cell))))));
    panel.replaceChildren(heading("The network", found.intro), strip, make("div.wide", { tabindex: 0 }, table), code(found.code));
  },
};

function block(box) {
  const layer = `stage:${box.label}`, known = facts.stages.some((stage) => stage.layer === layer);
  const drawn = make("i", { style: `height:${8 + 120 * box.height}px;width:${8 + 34 * box.width}px` });
  return make(`div.${box.kind}`, { role: "listitem" }, make("button", { type: "button", title: box.note, disabled: !known, onclick: () => go({ layer, tab: "layers" }) }, drawn, box.label), make("small", {}, box.shape));
}
