// Map: the photographs of a survey, laid out so that those lie together which look alike.
const METHODS = [["tsne", "t-SNE"], ["pca", "principal components"], ["umap", "UMAP"]];
let mapMethod = "tsne";

views.map = {
  title: "Map",
  async show(panel) {
    const title = heading("A map of photographs", "Photographs arranged so that those that are similar for the network lie together.");
    if (!facts.survey) {
      panel.replaceChildren(title, make("p.empty", {}, "The map needs a survey of many photographs: make one with convscope survey FOLDER, then start the app with convscope app --survey survey."));
      return;
    }
    const words = make("p.read", { "aria-live": "polite" }), place = make("div.laid"), near = make("section.section");
    const run = runner("Arrange them", (told) => begin("map", { method: mapMethod }, (answer) => { told(answer); if (answer.done) drawMap(answer, place, words); }));
    panel.replaceChildren(title, make("div.controls", {}, choice("By", METHODS, mapMethod, (value) => (mapMethod = value)), run), words, place, near);
    run.querySelector("button").click();
    if (photo) showNearest(near);
  },
  leave: halt,
};

function drawMap(answer, place, words) {
  const image = make("img", { src: answer.picture, alt: answer.words });
  image.addEventListener("pointermove", (event) => {
    const box = image.getBoundingClientRect(), at = (share) => Math.max(0, Math.min(answer.side - 1, Math.floor(share * answer.side)));
    const number = answer.grid[at((event.clientY - box.top) / box.height) * answer.side + at((event.clientX - box.left) / box.width)];
    words.textContent = number < 0 ? "" : [answer.labels[number], answer.names[number]].filter(Boolean).join(" · ");
  });
  words.textContent = `${answer.names.length} photographs, each once. Point at one to see its name.`;
  place.replaceChildren(image, code(answer.code));
}

async function showNearest(section) {
  const about = photo, found = await ask("nearest", { token: about.token });
  if (!found || about !== photo || !section.isConnected) return;
  section.replaceChildren(make("h3", {}, "Most similar to your photograph"), make("p", {}, "The photographs of the survey that are most similar to yours for the network, the nearest first."),
    make("div.cards.small", {}, ...found.parts.map((part) => picture(part.picture, part.label, ""))), code(found.code));
}
