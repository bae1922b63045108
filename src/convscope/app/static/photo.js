// The photograph on the left: bringing one, its answer, and what is drawn over it.
const photos = []; // all that were brought, each {token, name, view, classes, …}
let photo = null;
const listeners = []; // called when another photograph is looked at

function stage() {
  const file = make("input", { type: "file", accept: "image/*", multiple: true, hidden: true, onchange: () => bring(file.files) });
  const picture = make("figure.photo", {},
    make("img.view", { alt: "" }), make("img.over", { alt: "", hidden: true }),
    make("div.sees", { hidden: true }), make("figcaption", { hidden: true }));
  return make("aside.stage", { "aria-label": "The photograph" }, picture,
    make("div.bring", {},
      button("Choose a photograph", () => file.click(), ".main"),
      button("Camera", still), file),
    make("p.hint", {}, "or drop one anywhere, paste one, or try ",
      button("a tower", () => sample("china"), ".link"), " or ", button("a flower", () => sample("flower"), ".link"), "."),
    make("div.strip", { role: "group", "aria-label": "Your photographs" }), make("div.answer", { "aria-live": "polite" }));
}

async function bring(files) {
  for (const file of [...files].slice(0, 12)) {
    const found = await upload1(file);
    if (found) look(found, "");
  }
  if (files.length > 12) complain(`Only the first 12 of ${files.length} photographs were used.`);
}

async function upload1(file) {
  if (file.size > facts.most_bytes) return complain(`${file.name} is larger than ${Math.round(facts.most_bytes / 2 ** 20)} MB; make it smaller first.`);
  const found = await ask("photograph", { binary: true, data: { file } });
  return found && { ...found, name: file.name || "photograph", file };
}

// Brings a photograph once more; its name on the server is made of its content and stays.
async function broughtAgain(token) {
  const one = photos.find((known) => known.token === token);
  const found = one?.sample ? await server.sample({ name: one.sample }) : one?.file && await server.photograph({ binary: true, data: { file: one.file } });
  return Boolean(found && !found.error);
}

async function sample(name) {
  const found = await ask("sample", { name });
  if (found) look(found, name);
}

function look(found, name) {
  calm();
  const place = photos.findIndex((one) => one.token === found.token);
  if (place < 0) photos.push({ ...found, sample: name });
  photo = photos.at(place);
  if (photos.length > 12) photos.shift();
  go({ photo: photo.sample });
  drawPhoto();
  for (const listen of listeners) listen();
}

function drawPhoto() {
  const view = root.querySelector(".photo .view");
  view.src = photo.view;
  view.alt = `${photo.name}, cut as the network sees it: ${photo.width} by ${photo.height} pixels`;
  clearOver();
  root.querySelector(".answer").replaceChildren(answer(photo));
  root.querySelector(".strip").replaceChildren(...(photos.length > 1 ? photos.map(thumbnail) : []));
  root.querySelector(".strip [aria-pressed=true]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
}

function answer(one) {
  const best = one.classes[0];
  const sure = best.share === null ? "Highest score:" : best.share > 0.9 ? "Confident:" : best.share > 0.5 ? "Most likely" : "Not confident; perhaps";
  return make("div", {}, make("p.says", {}, make("span", {}, sure + " "), make("b", {}, best.label)), one.note ? make("p.soft", {}, one.note) : "", bars(one.classes), make("p.soft", {}, one.rule));
}

function bars(classes, open = aim) {
  return make("ol.bars", { "aria-label": "The most probable classes" }, ...classes.map((one) =>
    make("li", {}, make("button.bar", { type: "button", title: "Show where the evidence for this class is",
      "aria-pressed": String(state.target === `class:${one.number}`), onclick: () => open(one.number) },
    make("span.label", { title: one.label }, one.label), make("span.track", {}, make("i", { style: `width:${(100 * one.share).toFixed(2)}%` })),
    make("span.share", {}, amount(one))))));
}

function aim(number) {
  go({ target: `class:${number}`, tab: "look" });
  drawPhoto();
  views.look.show(root.querySelector(".panel"));
}

function thumbnail(one) {
  const best = one.classes[0];
  return make("button.thumb", { type: "button", "aria-pressed": String(one === photo), title: one.name, onclick: () => look(one, one.sample) },
    make("img", { src: one.view, alt: one.name }), make("span", {}, `${best.label} ${amount(best)}`));
}

// The pixels that a cell sees, as a frame on the photograph.
function frame(top, left, bottom, right, words) {
  const box = root.querySelector(".photo .sees");
  box.style.cssText = `top:${100 * top / photo.height}%;left:${100 * left / photo.width}%;height:${100 * (bottom - top) / photo.height}%;width:${100 * (right - left) / photo.width}%`;
  box.classList.remove("covering");
  box.hidden = false;
  caption(words);
}

function caption(words) {
  const line = root.querySelector(".photo figcaption");
  line.textContent = words;
  line.hidden = !words;
}

function over(address, opacity) {
  const picture = root.querySelector(".photo .over");
  picture.src = address || "";
  picture.hidden = !address;
  picture.style.opacity = opacity;
}

function clearOver() {
  root.querySelector(".photo .sees").hidden = true;
  over("", 0);
  caption("");
}

function acceptAnywhere() {
  document.addEventListener("dragover", (event) => { event.preventDefault(); root.toggleAttribute("data-drop", true); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) root.toggleAttribute("data-drop", false); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    root.toggleAttribute("data-drop", false);
    if (event.dataTransfer.files.length) bring(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => { if (event.clipboardData.files.length) bring(event.clipboardData.files); });
}

// One picture from the camera.
async function still() {
  const film = await camera();
  if (!film) return;
  await new Promise((done) => setTimeout(done, 600)); // the first frames are dark
  const file = await snapshot(film, 1280);
  film.srcObject.getTracks().forEach((track) => track.stop());
  const found = await upload1(new File([file], "camera.jpg", { type: "image/jpeg" }));
  if (found) look(found, "");
}

async function camera() {
  if (!navigator.mediaDevices) return complain("The camera needs an encrypted connection, or a browser on the machine that runs the app.");
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 } });
    const film = make("video", { autoplay: true, muted: true, playsinline: true });
    film.srcObject = stream;
    await film.play();
    return film;
  } catch {
    return complain("The camera is not available: the browser did not allow it, or there is no camera.");
  }
}

function snapshot(film, side) {
  const share = Math.min(1, side / Math.max(film.videoWidth, film.videoHeight));
  const canvas = make("canvas", { width: Math.round(film.videoWidth * share), height: Math.round(film.videoHeight * share) });
  canvas.getContext("2d").drawImage(film, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.85));
}
