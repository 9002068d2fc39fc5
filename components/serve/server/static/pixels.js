// From a drawing or a picture to what the model takes: bytes 0 to 255, row by row, shape [height, width, channels].

const FINER = 8; // each pixel of a drawing is the mean of FINER x FINER
const PEN = 2.6; // width of a stroke in MNIST, in pixels

/** A drawing as the model takes it: light ink on black. Strokes are lists of [x, y], 0 to 1. */
export function fromStrokes(strokes, [height, width]) {
  if (height !== 28 || width !== 28) return render(strokes, height, width, (height + width) * PEN / 56, (x, y) => [x * width, y * height]);
  // As MNIST was made: the ink fits a box of 20 x 20, and its centre of mass is the centre of 28 x 28.
  const points = strokes.flat();
  const [xs, ys] = [points.map(point => point[0]), points.map(point => point[1])];
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const scale = (20 - PEN) / Math.max(right - left, bottom - top, .1);
  const place = (shiftX, shiftY) => (x, y) =>
    [14 + shiftX + (x - (left + right) / 2) * scale, 14 + shiftY + (y - (top + bottom) / 2) * scale];
  const [massX, massY] = centreOfMass(render(strokes, 28, 28, PEN, place(0, 0)), 28);
  const within = shift => Math.max(-4, Math.min(4, shift));
  return render(strokes, 28, 28, PEN, place(within(14 - massX), within(14 - massY)));
}

function render(strokes, height, width, pen, place) {
  const context = surface(width * FINER, height * FINER);
  context.scale(FINER, FINER);
  trace(context, strokes, pen, place);
  return averaged(context, height, width).map(([, , , alpha]) => alpha);
}

/** Draw smooth strokes in the context's own colour. */
export function trace(context, strokes, pen, place) {
  context.lineWidth = pen;
  context.lineCap = context.lineJoin = "round";
  for (const stroke of strokes) {
    const points = stroke.map(([x, y]) => place(x, y));
    const [last] = points.slice(-1);
    context.beginPath();
    context.moveTo(...points[0]);
    for (let at = 1; at < points.length - 1; at++) {
      const [[x, y], [nextX, nextY]] = [points[at], points[at + 1]];
      context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
    }
    context.lineTo(...last);
    context.stroke();
  }
}

function centreOfMass(ink, width) {
  let [mass, sumX, sumY] = [0, 0, 0];
  ink.forEach((value, at) => {
    mass += value;
    sumX += value * (at % width + .5);
    sumY += value * (Math.floor(at / width) + .5);
  });
  return [sumX / mass, sumY / mass];
}

const XMP_ORIENTATION = /tiff:Orientation(?:="|>)([1-8])/;
const EXIF = /(?:Exif\0\0|eXIf|EXIF[^]{4})(?=II\*\0|MM\0\*)/;
const ORIENTATION = 0x0112; // EXIF's tag
const UPRIGHT = { // what brings a picture of w x h upright, by its orientation as EXIF numbers them
  2: (w, h) => [-1, 0, 0, 1, w, 0],
  3: (w, h) => [-1, 0, 0, -1, w, h],
  4: (w, h) => [1, 0, 0, -1, 0, h],
  5: (w, h) => [0, 1, 1, 0, 0, 0],
  6: (w, h) => [0, 1, -1, 0, h, 0],
  7: (w, h) => [0, -1, -1, 0, h, w],
  8: (w, h) => [0, -1, 1, 0, 0, w],
};

/** A file's picture as training reads it (components/common/datasets/decoding.py): turned as EXIF or XMP says, with the
 * colours that are stored. Rejects what this browser does not read. */
export async function readPicture(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const orientation = takeOrientation(bytes);
  const stored = await createImageBitmap(new Blob([bytes], { type: file.type }), { colorSpaceConversion: "none" });
  if (!(orientation in UPRIGHT)) return stored;
  const { width, height } = stored;
  const context = orientation < 5 ? surface(width, height) : surface(height, width);
  context.setTransform(...UPRIGHT[orientation](width, height));
  context.drawImage(stored, 0, 0);
  return context.canvas;
}

/** How the camera was held: EXIF's answer, else XMP's. EXIF's block is renamed, so that no browser turns the picture. */
function takeOrientation(bytes) {
  const text = new TextDecoder("latin1").decode(bytes);
  const exif = EXIF.exec(text);
  const told = exif && exifOrientation(new DataView(bytes.buffer, exif.index + exif[0].length));
  if (exif) bytes.set(new TextEncoder().encode("exIx"), exif.index);
  return told || Number(XMP_ORIENTATION.exec(text)?.[1] ?? 1);
}

function exifOrientation(tiff) {
  const little = tiff.getUint8(0) === 0x49;
  try {
    const start = tiff.getUint32(4, little);
    for (let entry = 0; entry < tiff.getUint16(start, little); entry++) {
      const at = start + 2 + 12 * entry;
      if (tiff.getUint16(at, little) === ORIENTATION) return tiff.getUint16(at + 8, little);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // cut off: it tells nothing
  }
  return 0;
}

/** A picture as the model takes it, white where transparent. Its proportions are kept, with the rest in the colour of its
 * corner, unless the model learned from images that were stretched to its size. */
export function fromPicture(picture, { shape: [height, width, channels], resized }, swap) {
  const [across, down] = [width / picture.width, height / picture.height];
  const scale = Math.min(across, down);
  const finer = Math.max(1, Math.min(FINER, Math.floor(1 / scale)));
  const context = surface(width * finer, height * finer);
  const corner = surface(1, 1);
  for (const one of [corner, context]) {
    one.fillStyle = "white";
    one.fillRect(0, 0, one.canvas.width, one.canvas.height);
  }
  corner.drawImage(picture, 0, 0, 1, 1, 0, 0, 1, 1);
  context.fillStyle = `rgb(${[...corner.getImageData(0, 0, 1, 1).data].slice(0, 3)})`;
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
  const [w, h] = [picture.width * (resized ? across : scale), picture.height * (resized ? down : scale)]
    .map(size => Math.max(1, Math.round(size * finer)));
  const [x, y] = [(context.canvas.width - w) / 2, (context.canvas.height - h) / 2].map(Math.round);
  context.fillStyle = "white";
  context.fillRect(x, y, w, h);
  context.imageSmoothingEnabled = w !== picture.width || h !== picture.height;
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, x, y, w, h);
  return averaged(context, height, width).flatMap(([red, green, blue]) => {
    const colours = channels < 3 ? [.299 * red + .587 * green + .114 * blue] : [red, green, blue];
    const values = colours.map(Math.round).map(value => swap ? 255 - value : value);
    return channels === 2 || channels === 4 ? [...values, 255] : values;
  });
}

/** Means of FINER x FINER (or fewer) points of a canvas, as [red, green, blue, alpha] per pixel. */
function averaged(context, height, width) {
  const step = context.canvas.width / width;
  const { data } = context.getImageData(0, 0, context.canvas.width, context.canvas.height);
  const pixels = [];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const sums = [0, 0, 0, 0];
      for (let row = y * step; row < (y + 1) * step; row++) {
        for (let at = 4 * (row * width * step + x * step), end = at + 4 * step; at < end; at++) sums[at % 4] += data[at];
      }
      pixels.push(sums.map(sum => Math.round(sum / step / step)));
    }
  }
  return pixels;
}

function surface(width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  return canvas.getContext("2d", { willReadFrequently: true });
}

/** Paint pixels onto a canvas, one to one. */
export function paint(canvas, pixels, [height, width, channels]) {
  Object.assign(canvas, { width, height }).classList.add("pixels");
  const image = new ImageData(width, height);
  for (let at = 0; at < width * height; at++) {
    const values = pixels.slice(at * channels, (at + 1) * channels);
    image.data.set(channels < 3 ? [values[0], values[0], values[0], 255] : [...values.slice(0, 3), 255], 4 * at);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Nested lists, as a request holds an image. */
export function nested(pixels, [height, width, channels]) {
  return Array.from({ length: height }, (_, y) => Array.from({ length: width }, (_, x) =>
    pixels.slice((y * width + x) * channels, (y * width + x + 1) * channels)));
}

/** Whether an image is rather light at its edge. */
export function lightAtEdge(pixels, [height, width, channels]) {
  const edge = pixels.filter((_, at) => {
    const [x, y] = [Math.floor(at / channels) % width, Math.floor(at / channels / width)];
    return x === 0 || y === 0 || x === width - 1 || y === height - 1;
  });
  return edge.reduce((sum, value) => sum + value, 0) / edge.length > 127;
}
