// Photos of the user: read as the browser shows them, and marked with the four corners of the material.

"use strict";

const ROWS_AT_A_TIME = 512;
const CORNER_NAMES = ["top left", "top right", "bottom right", "bottom left"];
const STEP_OF_KEY = 0.0025; // of a photo's side
const LARGE_STEP = 0.02;
// Corners may be outside of a photo, which then shows a part of the material.
const FARTHEST_OUTSIDE = 0.5;

// Reads a photo's pixels, upright and converted to sRGB, both by the browser.
async function readPixels(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    const isHeif = /\.(heic|heif)$/i.test(file.name);
    const isRaw = /\.(dng|cr2|cr3|nef|arw|raf|orf|rw2|pef|srw|exr|tiff?)$/i.test(file.name);
    let advice = "It may be damaged, or no photo.";
    if (isHeif) advice = "This browser cannot read HEIC; Safari can. Or save the photo as JPEG.";
    if (isRaw) advice = "Browsers do not read this format; save the photo as JPEG or PNG.";
    throw new Error(`${file.name} cannot be opened. ${advice}`);
  }
  const { width, height } = bitmap;
  const values = new Uint8Array(width * height * 3);
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = Math.min(height, ROWS_AT_A_TIME);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  // In strips, because phones refuse a canvas as large as their own photos.
  for (let top = 0; top < height; top += ROWS_AT_A_TIME) {
    const rows = Math.min(ROWS_AT_A_TIME, height - top);
    context.clearRect(0, 0, width, rows);
    context.drawImage(bitmap, 0, -top);
    const { data } = context.getImageData(0, 0, width, rows);
    let place = top * width * 3;
    for (let index = 0; index < data.length; index += 4) {
      if (data[index + 3] !== LARGEST) {
        throw new Error(`${file.name} has transparent parts, which this page cannot leave out. Crop the photo, or use \`neuropbr infer\`.`);
      }
      values[place] = data[index];
      values[place + 1] = data[index + 1];
      values[place + 2] = data[index + 2];
      place += 3;
    }
  }
  bitmap.close();
  return { width, height, values };
}

// The order in which `neuropbr infer` lists the photos of a folder, `data.layout.paths.list_photos`: digits are padded,
// so that 10 comes after 9; the names themselves decide between those that differ in leading zeros only.
const DIGITS_PADDED = 12;

function compareNames(left, right) {
  // Python counts and compares code points; JavaScript's own `<` and `length` see halves of those beyond 16 bits.
  const pad = (name) => name.replace(/\p{Nd}+/gu, (digits) => "0".repeat(Math.max(DIGITS_PADDED - [...digits].length, 0)) + digits);
  const compare = (a, b) => {
    const [first, second] = [a, b].map((text) => [...text].map((character) => character.codePointAt(0)));
    const length = Math.min(first.length, second.length);
    for (let index = 0; index < length; index += 1) {
      if (first[index] !== second[index]) return first[index] - second[index];
    }
    return first.length - second.length;
  };
  return compare(pad(left), pad(right)) || compare(left, right);
}

function sortByName(photos) {
  return [...photos].sort((left, right) => compareNames(left.name, right.name));
}

// A photo in the page: its card shows it, and takes its corners where the model wants them.
class Photo {
  // pixels: fitted to the model's size; size: [width, height] of the file; changed: called when corners move.
  constructor(file, pixels, size, { withCorners, changed }) {
    this.name = file.name;
    this.pixels = pixels;
    this.size = size;
    this.camera = null;
    this.corners = TEXTURE_CORNERS.map((corner) => [...corner]);
    this.changed = changed;
    this.card = document.createElement("li");
    this.card.className = "photo";
    this.image = document.createElement("img");
    this.image.src = URL.createObjectURL(file);
    this.image.alt = file.name;
    this.stage = document.createElement("div");
    this.stage.className = "corners";
    this.stage.style.aspectRatio = `${size[0]} / ${size[1]}`;
    this.stage.append(this.image);
    this.label = document.createElement("b");
    const note = document.createElement("span");
    note.textContent = `${file.name}, ${size[0]} × ${size[1]}`;
    const title = document.createElement("p");
    title.append(this.label, note);
    this.tools = document.createElement("div");
    this.tools.className = "row";
    this.card.append(this.stage, title, this.tools);
    if (withCorners) this.addCorners();
  }

  get isWhole() {
    return this.corners.every((corner, index) => corner.every((value, axis) => value === TEXTURE_CORNERS[index][axis]));
  }

  // The page numbers photos, because their order counts.
  number(index) {
    this.index = index;
    this.label.textContent = `Photo ${index + 1} `;
    this.drawCorners();
  }

  addTool(text, label, action) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "button";
    button.textContent = text;
    button.setAttribute("aria-label", `${label} ${this.name}`);
    button.addEventListener("click", action);
    this.tools.append(button);
    return button;
  }

  addCorners() {
    const space = "http://www.w3.org/2000/svg";
    const drawing = document.createElementNS(space, "svg");
    drawing.setAttribute("viewBox", "0 0 1 1");
    drawing.setAttribute("preserveAspectRatio", "none");
    drawing.setAttribute("aria-hidden", "true");
    this.outline = document.createElementNS(space, "polygon");
    drawing.append(this.outline);
    this.stage.append(drawing);
    this.handles = CORNER_NAMES.map((name, index) => {
      const handle = document.createElement("button");
      handle.type = "button";
      handle.className = "corner";
      handle.textContent = String(index + 1);
      this.stage.append(handle);
      this.listen(handle, index);
      return handle;
    });
    this.addTool("Whole photo", "Corners back to those of", () => {
      this.setCorners(TEXTURE_CORNERS, null);
      this.changed();
    });
  }

  setCorners(corners, camera) {
    this.corners = corners.map((corner) => [...corner]);
    this.camera = camera;
    this.drawCorners();
  }

  listen(handle, index) {
    const move = (x, y) => {
      const clamp = (value) => Math.min(Math.max(value, -FARTHEST_OUTSIDE), 1 + FARTHEST_OUTSIDE);
      this.corners[index] = [clamp(x), clamp(y)];
      this.camera = null; // it belongs to other corners
      this.drawCorners();
      this.changed();
    };
    handle.addEventListener("pointerdown", (event) => {
      handle.setPointerCapture(event.pointerId);
      handle.focus();
      event.preventDefault();
    });
    handle.addEventListener("pointermove", (event) => {
      if (!handle.hasPointerCapture(event.pointerId)) return;
      const box = this.image.getBoundingClientRect();
      move((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    });
    handle.addEventListener("keydown", (event) => {
      const step = event.shiftKey ? LARGE_STEP : STEP_OF_KEY;
      const direction = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!direction) return;
      event.preventDefault();
      const [x, y] = this.corners[index];
      move(x + direction[0] * step, y + direction[1] * step);
    });
  }

  drawCorners() {
    if (!this.handles) return;
    this.outline.setAttribute("points", this.corners.map((corner) => corner.join(",")).join(" "));
    this.outline.classList.toggle("wrong", homographyOfCorners(this.corners) === null);
    const percent = (value) => `${(value * 100).toFixed(1)} %`;
    this.handles.forEach((handle, index) => {
      const [x, y] = this.corners[index];
      handle.style.left = percent(x).replace(" ", "");
      handle.style.top = percent(y).replace(" ", "");
      handle.setAttribute("aria-label",
        `Photo ${this.index + 1}, ${CORNER_NAMES[index]} corner: ${percent(x)} from the left, ${percent(y)} from the top`);
    });
  }

  release() {
    URL.revokeObjectURL(this.image.src);
    this.card.remove();
  }
}
