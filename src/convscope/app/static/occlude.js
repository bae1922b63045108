// Occlude: a window covers every place in turn; point at the photograph to see what changes.
const side = Math.min(...facts.size);
const covering = { window: Math.max(1, Math.floor(side / 5)), stride: Math.max(1, Math.floor(side / 18)), fill: "grey" };
let covered = null;

views.occlude = {
  title: "Occlude",
  show(panel) {
    if (needPhoto(panel)) return;
    covered = null;
    const cards = make("div.cards.small"), words = make("p.read", { "aria-live": "polite" }), codes = make("div");
    const run = runner("Cover every position", (told) => {
      covered = null;
      for (const part of [cards, words, codes]) part.replaceChildren();
      return begin("occlude", { token: photo.token, ...covering }, (answer) => {
        told(answer);
        if (answer.done) drawCovered(answer, cards, words, codes);
      });
    });
    panel.replaceChildren(
      heading("What happens when a part is covered?", "A window covers every position of the photograph in turn, and the network predicts again each time. The prediction drops where the evidence is."),
      make("div.controls", {}, number("Window", covering.window, 1, side, (value) => (covering.window = value)), number("Stride", covering.stride, 1, side, (value) => (covering.stride = value)),
        choice("Shows", facts.fills, covering.fill, (value) => (covering.fill = value)), run), words, cards, codes);
    run.querySelector("button").click();
  },
  leave() { covered = null; halt(); if (photo) drawPhoto(); },
};

function drawCovered(answer, cards, words, codes) {
  covered = { ...answer, token: photo.token };
  words.textContent = "Hover over the photograph: the bars show the prediction with a window at that position. All maps share one scale.";
  panelOf(cards).style.setProperty("--opacity", 0.6);
  cards.replaceChildren(...answer.classes.map((one) => layered({ heat: one.heat, words: `How much covering each position lowers ${one.label}` },
    one.label, `${percent(one.share)} as it is; ${percent(one.worst)} with a window in the worst place.`)));
  for (const card of cards.querySelectorAll(".card")) { pointable(card.querySelector(".photo")); card.querySelector("figcaption").append(make("p.now")); }
  pointable(root.querySelector(".stage .photo"));
  codes.replaceChildren(code(answer.code));
}

const panelOf = (part) => part.closest(".panel");

function pointable(box) {
  if (box.pointable) return;
  box.pointable = true;
  const cover = (event) => { if (covered && covered.token === photo.token) underWindow(box, event); };
  box.addEventListener("pointermove", cover);
  box.addEventListener("pointerdown", cover); // a finger does not move before it touches
  box.addEventListener("pointerleave", (event) => { if (covered && event.pointerType !== "touch") uncover(); });
}

function uncover() {
  clearOver();
  root.querySelector(".answer").replaceChildren(answer(photo));
  root.querySelectorAll(".now").forEach((line) => (line.textContent = ""));
}

function underWindow(box, event) {
  const place = box.getBoundingClientRect(), [rows, columns] = covered.grid, { window: wide, stride } = covered;
  const at = (share, length, count) => Math.max(0, Math.min(count - 1, Math.round((share * length - wide / 2) / stride)));
  const row = at((event.clientY - place.top) / place.height, photo.height, rows);
  const column = at((event.clientX - place.left) / place.width, photo.width, columns);
  frame(row * stride, column * stride, Math.min(photo.height, row * stride + wide), Math.min(photo.width, column * stride + wide), "Covered here");
  root.querySelector(".stage .sees").classList.add("covering");
  const now = covered.classes.map((one) => ({ ...one, share: one.shares[row * columns + column] }));
  root.querySelectorAll(".now").forEach((line, place) => (line.textContent = `${percent(now[place].share)} with the window where you point.`));
  const before = covered.classes[0], left = now.find((one) => one.number === before.number).share;
  root.querySelector(".answer").replaceChildren(make("div", {}, make("p.says", {}, make("span", {}, "Covered here: "), make("b", {}, `${before.label} ${percent(left)}`)), bars(now)));
}
