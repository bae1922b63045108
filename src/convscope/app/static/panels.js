// What several tabs show: a heat map over the photograph, headings, waiting.
function heading(title, words) {
  return make("header", {}, make("h2", {}, title), make("p", {}, words));
}

function layered(found, title, words) {
  const above = make("img.over", { src: found.heat || "", alt: found.words || title, hidden: !found.heat });
  return make("figure.card", {},
    make("div.photo", {}, make("img.view", { src: photo.view, alt: "" }), above,
      found.heat ? "" : make("p.none", {}, found.empty || "no positive evidence")),
    make("figcaption", {}, make("h3", {}, title), make("p", {}, words), found.note ? make("p.soft", {}, found.note) : "", found.code ? code(found.code) : ""));
}

function needPhoto(panel) {
  if (photo) return false;
  panel.replaceChildren(make("p.empty", {}, "Choose a photograph first."));
  return true;
}

function waiting(words) {
  return make("p.waiting", { role: "status" }, words);
}
