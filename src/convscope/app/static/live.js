// Live: the camera. A frame is sent when the last one was answered, so none ever waits.
const film = { video: null, on: false, count: 0, since: 0 };

views.live = {
  title: "Live",
  show(panel) {
    const start = button("Turn the camera on", () => turnOn(panel), ".act.main");
    panel.replaceChildren(heading("The camera, live", "What the network predicts for the camera picture, frame by frame. Nothing is stored."),
      make("div.controls", {}, start, layerChoice(), number("Follow channel", state.channel, 0, lastChannel(), (channel) => go({ channel })),
        slider("Heat", { min: 0, max: 100, value: 100 * shown.opacity }, (value) => { shown.opacity = value / 100; fade(panel); }), make("span.soft.rate", { role: "status" })),
      make("div.live", {}));
    fade(panel);
  },
  leave: turnOff,
};

async function turnOn(panel) {
  if (film.on) return turnOff();
  film.video = await camera();
  if (!film.video) return;
  film.on = true;
  panel.querySelector(".main").textContent = "Turn it off";
  const heat = make("img.over", { alt: "Where the evidence is" }), answers = make("div.answer"), tiles = make("canvas.sheet", { role: "img", "aria-label": "The strongest channels of the layer" });
  const followed = make("img", { alt: "The followed channel" }), about = make("p");
  panel.querySelector(".live").replaceChildren(make("div", {}, make("div.photo.moving", {}, film.video, heat), answers),
    make("figure.card", {}, make("div.photo", {}, followed), make("figcaption", {}, make("h3", {}, "The followed channel"), about)),
    make("figure.card", {}, tiles, make("figcaption", {}, make("h3", {}, "The layer's strongest channels"))));
  film.count = 0; film.since = performance.now();
  while (film.on && panel.isConnected) await oneFrame(panel, { heat, answers, tiles, followed, about });
}

async function oneFrame(panel, parts) {
  const file = await squareFrame(film.video);
  const found = await server.frame({ binary: true, data: { file: new File([file], "frame.jpg"), ask: JSON.stringify({ layer: state.layer, channel: state.channel }) } }) ?? { error: await refused("The server refused this camera picture; please try again.") };
  if (!film.on) return;
  if (found.error) { complain(found.error); return turnOff(); }
  parts.heat.src = found.heat; parts.heat.hidden = !found.heat;
  parts.followed.src = found.followed; parts.followed.hidden = !found.followed;
  parts.about.textContent = found.about;
  parts.answers.replaceChildren(bars(found.classes, seize));
  drawTiles(parts.tiles, found.tiles, found.channels);
  film.count += 1;
  panel.querySelector(".rate").textContent = `${(1000 * film.count / (performance.now() - film.since)).toFixed(1)} pictures a second`;
  panel.dataset.frames = film.count;
}

// The middle of a frame, as large as the network takes it.
function squareFrame(video) {
  const [height, width] = facts.size, share = Math.min(video.videoWidth / width, video.videoHeight / height);
  const canvas = make("canvas", { width, height });
  canvas.getContext("2d").drawImage(video, (video.videoWidth - width * share) / 2, (video.videoHeight - height * share) / 2, width * share, height * share, 0, 0, width, height);
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.9));
}

// A class that was chosen is looked for in what the camera sees at that moment.
async function seize(number) {
  const file = await snapshot(film.video, 1280), found = await upload1(new File([file], "camera.jpg", { type: "image/jpeg" }));
  if (found) look(found, "");
  if (found) aim(number);
}

function drawTiles(canvas, found, channels) {
  const picture = new Image();
  picture.onload = () => {
    const brush = canvas.getContext("2d"), side = 72, rows = Math.ceil(channels.length / found.columns);
    canvas.width = found.columns * side;
    canvas.height = rows * side;
    brush.imageSmoothingEnabled = false;
    brush.drawImage(picture, 0, 0, found.columns * found.width, rows * found.height, 0, 0, canvas.width, canvas.height);
    brush.font = "600 13px system-ui, sans-serif";
    brush.lineWidth = 3;
    channels.forEach((channel, place) => numbered(brush, channel, (place % found.columns) * side + 3, Math.floor(place / found.columns) * side + side - 5));
  };
  picture.src = found.uri;
}

function numbered(brush, channel, x, y) {
  brush.strokeStyle = "#000"; brush.fillStyle = "#fff";
  brush.strokeText(channel, x, y);
  brush.fillText(channel, x, y);
}

function turnOff() {
  film.on = false;
  film.video?.srcObject?.getTracks().forEach((track) => track.stop());
  const start = root.querySelector(".panel[data-tab=live] .main");
  if (start) start.textContent = "Turn the camera on";
}
