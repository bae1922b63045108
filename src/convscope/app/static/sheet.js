// Every channel of a layer on one canvas, drawn from one picture that holds them all.
function sheetOf(found, options) {
  const canvas = make("canvas.sheet", { tabindex: 0, role: "img" });
  const sheet = { canvas, found, order: [], ...options };
  const picture = new Image();
  canvas.addEventListener("pointermove", (event) => point(sheet, cellUnder(sheet, event)));
  canvas.addEventListener("pointerleave", () => point(sheet, null));
  canvas.addEventListener("click", (event) => chosenBy(event, sheet));
  canvas.addEventListener("blur", () => mark(sheet, null));
  sheet.ready = new Promise((done) => { picture.onload = done; });
  picture.src = found.uri;
  sheet.picture = picture;
  return sheet;
}

// A finger cannot hover: its first tap points, the second opens.
function chosenBy(event, sheet) {
  const cell = cellUnder(sheet, event);
  if (!cell) return;
  if (event.pointerType !== "touch" || sheet.tapped === cell.channel) return sheet.open(cell.channel);
  sheet.tapped = cell.channel;
  point(sheet, cell, "Tap it again");
  mark(sheet, cell.place);
}

// A frame around the tile that keys or a finger have reached.
function mark(sheet, place) {
  sheet.canvas.parentElement?.querySelector(".mark")?.remove();
  if (place === null) return;
  const { canvas, tile, across } = sheet, x = canvas.offsetLeft + (place % across) * tile, y = canvas.offsetTop + Math.floor(place / across) * tile;
  const drawn = make("i.mark", { style: `left:${x - 3}px;top:${y - 3}px;width:${tile + 3}px;height:${tile + 3}px` });
  canvas.after(drawn);
  drawn.scrollIntoView({ block: "nearest" });
}

function arrange(sheet, sort) {
  const strength = sheet.found[sort] || sheet.found.mean;
  sheet.order = sheet.found.mean.map((_, k) => k);
  if (sort !== "index") sheet.order.sort((a, b) => strength[b] - strength[a]);
  layOut(sheet);
}

// As many columns as make all tiles visible without scrolling, within reason.
function layOut(sheet) {
  const { canvas, found, order } = sheet;
  mark(sheet, null);
  const width = Math.max(240, canvas.parentElement.clientWidth);
  const wanted = Math.sqrt(width * Math.max(420, innerHeight - 260) / order.length);
  const tile = Math.max(26, Math.min(112, Math.floor(wanted)));
  sheet.across = Math.max(1, Math.floor(width / tile));
  sheet.tile = Math.floor(width / sheet.across);
  const rows = Math.ceil(order.length / sheet.across), dense = Math.min(2, devicePixelRatio || 1);
  canvas.width = sheet.across * sheet.tile * dense;
  canvas.height = rows * sheet.tile * dense;
  canvas.style.height = `${rows * sheet.tile}px`;
  canvas.style.width = `${sheet.across * sheet.tile}px`;
  const brush = canvas.getContext("2d");
  brush.scale(dense, dense);
  brush.imageSmoothingEnabled = found.width > sheet.tile;
  order.forEach((_, place) => drawTile(sheet, brush, place));
  canvas.setAttribute("aria-label", `${order.length} channels of ${found.layer}; ${name(found.layer)} channel ${order[0]} comes first. Arrow keys move, Enter opens.`);
}

function drawTile(sheet, brush, place) {
  const { found, tile, across, order, picture } = sheet, k = order[place];
  const x = (place % across) * tile, y = Math.floor(place / across) * tile, gap = 3;
  const fit = (tile - gap) / Math.max(found.width, found.height), wide = found.width * fit, tall = found.height * fit;
  brush.drawImage(picture, (k % found.columns) * found.width, Math.floor(k / found.columns) * found.height, found.width, found.height, x, y, wide, tall);
  if (found.most[k] > found.least[k]) return;
  brush.strokeStyle = "#777"; // the same everywhere: nothing to see
  brush.beginPath(); brush.moveTo(x, y); brush.lineTo(x + wide, y + tall); brush.stroke();
}

function cellUnder(sheet, event) {
  const box = sheet.canvas.getBoundingClientRect(), { tile, across, found, order } = sheet;
  const x = event.clientX - box.left, y = event.clientY - box.top;
  const place = Math.floor(y / tile) * across + Math.floor(x / tile);
  if (x < 0 || y < 0 || Math.floor(x / tile) >= across || !(place in order)) return null;
  const [rows, columns] = found.grid, fit = (tile - 3) / Math.max(found.width, found.height);
  const row = Math.min(rows - 1, Math.floor((y % tile) / (found.height * fit) * rows));
  const column = Math.min(columns - 1, Math.floor((x % tile) / (found.width * fit) * columns));
  return { channel: order[place], place, row, column };
}

function point(sheet, cell, how = "Click") {
  const words = sheet.words;
  if (!cell) {
    words.textContent = sheet.resting;
    if (photo) clearOver();
    return;
  }
  const { found } = sheet;
  if (sheet.tell) { words.textContent = sheet.tell(cell.channel); return; }
  words.textContent = `Channel ${cell.channel}: maximum ${short(found.most[cell.channel])}, mean ${short(found.mean[cell.channel])}. ${how} to open it.`;
  const [top, left, bottom, right] = seen(found.sees, cell.row, cell.column);
  frame(top, left, bottom, right, found.sees ? `${found.sees.whole ? "Local r" : "R"}eceptive field: ${right - left} by ${bottom - top} pixels` : "This cell sees the whole photograph");
}

// Pixels that a cell sees, cut at the photograph's borders.
function seen(sees, row, column) {
  if (!sees) return [0, 0, photo.height, photo.width];
  const [top, bottom] = span(sees.y, row, photo.height), [left, right] = span(sees.x, column, photo.width);
  return [top, left, bottom, right];
}

function span(axis, cell, length) {
  const centre = axis.offset + cell * axis.stride, reach = (axis.size - 1) / 2;
  return [Math.max(0, Math.round(centre - reach)), Math.min(length, Math.round(centre + reach) + 1)];
}

const name = (layer) => (facts.stages.find((stage) => stage.layer === layer) || { layer }).layer;
