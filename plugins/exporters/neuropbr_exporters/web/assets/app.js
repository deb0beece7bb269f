// The page: photos in, maps and their preview out.

"use strict";

const LEAST_AGREEMENT = 0.2;

// The content of a data block: base64 of gzip.
async function unpack(id) {
  const packed = Uint8Array.from(atob(document.getElementById(id).textContent), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The model in a worker.
class Model {
  constructor() {
    this.waiting = new Map();
    this.number = 0;
    this.started = this.start();
  }

  async start() {
    const begin = performance.now();
    const names = ["neuropbr-program", "neuropbr-module", "neuropbr-wasm", "neuropbr-model"];
    const [program, module, wasm, model] = await Promise.all(names.map(unpack));
    const url = URL.createObjectURL(new Blob([program], { type: "text/javascript" }));
    this.worker = new Worker(url);
    this.worker.onmessage = ({ data: [number, error, content] }) => {
      const { resolve, reject } = this.waiting.get(number);
      this.waiting.delete(number);
      if (error === null) resolve(content);
      else reject(new Error(error));
    };
    this.worker.onerror = (event) => {
      event.preventDefault();
      for (const { reject } of this.waiting.values()) reject(new Error(event.message || "the worker did not start"));
      this.waiting.clear();
    };
    await this.ask("start", { module: new TextDecoder().decode(module), wasm, model });
    this.seconds = (performance.now() - begin) / 1000;
  }

  ask(name, content) {
    this.number += 1;
    const { number } = this;
    return new Promise((resolve, reject) => {
      this.waiting.set(number, { resolve, reject });
      this.worker.postMessage([number, name, content]);
    });
  }

  async call(name, content) {
    await this.started;
    return this.ask(name, content);
  }
}

function save(blob, name) {
  const link = document.createElement("a");
  link.download = name;
  link.href = URL.createObjectURL(blob);
  link.click();
  // Later, since some browsers read the content only after the click.
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// Values (channels, height, width) between low and high become a picture of 8 bits; one channel becomes grey.
function picture({ values, shape }, low, high) {
  const [channels, height, width] = shape.slice(-3);
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  const area = width * height;
  for (let pixel = 0; pixel < area; pixel += 1) {
    for (let channel = 0; channel < 3; channel += 1) {
      const value = values[(channels === 3 ? channel * area : 0) + pixel];
      image.data[4 * pixel + channel] = roundEven(Math.min(Math.max((value - low) / (high - low), 0), 1) * LARGEST);
    }
    image.data[4 * pixel + 3] = LARGEST;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

class App {
  constructor() {
    this.facts = readData("neuropbr-facts");
    this.photos = [];
    this.isArranged = false; // whether the arrows changed the order of names
    this.cameras = null;
    this.files = new Map(); // of the last prediction, by name
    this.results = find("#results");
    this.status = find("#status");
    this.problems = find("#problems");
    this.button = find("#predict");
    this.drop = find("#drop");
    this.listen();
    this.model = new Model();
    this.say("The model is loading …");
    this.model.started.then(
      () => this.say(`The model is loaded (${this.model.seconds.toFixed(1)} s).`),
      (error) => this.complain(`The model cannot run in this browser: ${error.message}. Use a recent Chrome, Edge, Firefox or Safari; if the page was opened as a file, a web server may help.`),
    );
    this.changed();
  }

  listen() {
    const input = find("input", this.drop);
    input.addEventListener("change", () => {
      this.add([...input.files]);
      input.value = ""; // so that the same file can be chosen again
    });
    for (const name of ["dragenter", "dragover"]) {
      document.addEventListener(name, (event) => {
        event.preventDefault();
        this.drop.classList.add("is-over");
      });
    }
    for (const name of ["dragleave", "drop"]) {
      document.addEventListener(name, (event) => {
        event.preventDefault();
        this.drop.classList.remove("is-over");
      });
    }
    document.addEventListener("drop", (event) => this.add([...event.dataTransfer.files]));
    this.button.addEventListener("click", () => this.predict());
    find("#save-all").addEventListener("click", () => this.saveAll());
    find("#save-cameras")?.addEventListener("click", () => this.saveCameras());
  }

  say(text) {
    this.status.textContent = text;
  }

  complain(text) {
    const line = document.createElement("p");
    line.className = "warning";
    line.textContent = text;
    this.problems.append(line);
  }

  // Reads files one after the other; those that fail are named, and the others stay.
  async add(files) {
    this.problems.replaceChildren();
    const added = [];
    for (const file of files) {
      this.say(`Reading ${file.name} …`);
      try {
        if (/\.json$/i.test(file.name)) this.cameras = this.readCameras(file.name, await file.text());
        else added.push(await this.readPhoto(file));
      } catch (error) {
        this.complain(error.message);
      }
    }
    // An order that the user chose stays.
    if (this.isArranged) this.photos.push(...sortByName(added));
    else this.photos = sortByName([...this.photos, ...added]);
    this.say("");
    this.useCameras();
    this.arrange();
  }

  async readPhoto(file) {
    const pixels = await readPixels(file);
    const size = [pixels.width, pixels.height];
    const fitted = await this.model.call("fit", { pixels, size: this.facts.photoSize });
    const photo = new Photo(file, fitted, size, { withCorners: this.facts.aligned, changed: () => this.changed() });
    photo.addTool("↑", "Move up", () => this.move(photo, -1));
    photo.addTool("↓", "Move down", () => this.move(photo, 1));
    photo.addTool("Remove", "Remove", () => this.remove(photo));
    return photo;
  }

  // A cameras.json of `neuropbr`: {folder: [{homography, position}]}.
  readCameras(name, text) {
    if (!this.facts.aligned) throw new Error(`${name}: this model takes photos as they are and needs no cameras.`);
    let sets;
    try {
      sets = Object.values(JSON.parse(text));
    } catch {
      throw new Error(`${name} is no JSON file.`);
    }
    const isCamera = (camera) => [...(camera?.homography?.flat?.() ?? []), ...(camera?.position ?? [])].every(Number.isFinite)
      && camera?.homography?.flat?.().length === 9 && camera?.position?.length === 3;
    if (sets.length !== 1 || !Array.isArray(sets[0]) || !sets[0].every(isCamera)) {
      throw new Error(`${name} must hold the cameras of one capture, as neuropbr writes them; it holds ${sets.length}.`);
    }
    return sets[0];
  }

  useCameras() {
    if (this.cameras === null || !this.photos.length) return;
    if (this.cameras.length !== this.photos.length) {
      this.complain(`The file of cameras has ${this.cameras.length}, and there are ${this.photos.length} photos; add or remove some.`);
      return;
    }
    // Files of cameras follow the names of photos, whatever their order in the page.
    sortByName(this.photos).forEach((photo, index) => {
      const camera = this.cameras[index];
      photo.setCorners(TEXTURE_CORNERS.map((corner) => apply(camera.homography, corner).slice(0, 2)), camera);
    });
    this.cameras = null;
  }

  move(photo, step) {
    const from = this.photos.indexOf(photo);
    const to = Math.min(Math.max(from + step, 0), this.photos.length - 1);
    this.photos.splice(from, 1);
    this.photos.splice(to, 0, photo);
    if (to !== from) this.isArranged = true;
    this.arrange();
  }

  remove(photo) {
    this.photos.splice(this.photos.indexOf(photo), 1);
    photo.release();
    if (!this.photos.length) this.isArranged = false;
    this.useCameras();
    this.arrange();
  }

  arrange() {
    find("#photos").replaceChildren(...this.photos.map((photo) => photo.card));
    this.photos.forEach((photo, index) => {
      photo.number(index);
      photo.card.classList.toggle("is-spare", index >= this.facts.views);
    });
    this.changed();
  }

  // Tells what is missing, or that all is there.
  changed() {
    const { views, aligned } = this.facts;
    const given = this.photos.length;
    const used = this.photos.slice(0, views);
    const wanted = views === 1 ? "one photo" : `${views} photos`;
    let text = "";
    let isReady = true;
    if (given < views) {
      text = `The model takes ${wanted} of one material; ${given} ${given === 1 ? "is" : "are"} there.`;
      isReady = false;
    } else if (given > views) {
      text = `The model takes ${wanted}, and ${given} are there; it takes the first.`;
    }
    if (aligned && isReady) {
      const wrong = used.findIndex((photo) => homographyOfCorners(photo.corners) === null && !photo.camera);
      if (wrong >= 0) {
        text = `The corners of photo ${wrong + 1} are in a wrong order: 1 is the top left of the material, 2, 3 and 4 follow clockwise.`;
        isReady = false;
      } else if (this.areWhole()) {
        text += " No corners are marked, so each photo counts as cut to the same square of the material.";
        if (new Set(used.map((photo) => photo.size.join(" × "))).size > 1) {
          text += " Their sizes differ, so they hardly are: mark the same four points in each.";
        }
      }
    }
    find("#hint").textContent = text.trim();
    this.button.disabled = !isReady || this.isBusy;
    if (aligned) this.checkCamerasFile(isReady);
  }

  // Tells why a file of cameras would not fit the photos, or what changes when `infer` takes them by name.
  checkCamerasFile(isReady) {
    const spare = this.photos.length - this.facts.views;
    const names = this.photos.map((photo) => photo.name);
    const repeated = names.find((name, index) => names.indexOf(name) < index);
    const [first] = sortByName(this.photos);
    let text = "";
    let isFitting = isReady;
    if (spare > 0) {
      text = `To save cameras.json, remove the ${spare === 1 ? "spare photo" : `${spare} spare photos`}: the file must have a camera for each photo of the folder.`;
      isFitting = false;
    } else if (repeated !== undefined) {
      text = `To save cameras.json, rename a photo: two are named ${repeated}, and a folder holds only one of them.`;
      isFitting = false;
    } else if (isReady && first !== this.photos[0]) {
      text = `\`neuropbr infer\` takes photos by name, and cameras.json has this order: there, ${first.name} is the first photo, which should be from straight above, and not ${names[0]}. Rename the photos, and choose them again, to keep the order of this page.`;
    }
    find("#cameras-hint").textContent = text;
    find("#save-cameras").disabled = !isFitting;
  }

  // Whether no corner is marked in the photos that are used.
  areWhole() {
    return this.photos.slice(0, this.facts.views).every((photo) => photo.isWhole && !photo.camera);
  }

  // Where the used photos were taken from.
  camerasInUse() {
    const used = this.photos.slice(0, this.facts.views);
    if (!this.facts.aligned) return [];
    // Numbers of cameras have single precision in neuropbr.
    const single = (numbers) => numbers.map(Math.fround);
    const record = (homography, position) => ({ homography: homography.map(single), position: single(position) });
    if (used.every((photo) => photo.camera)) {
      return used.map(({ camera }) => record(camera.homography, camera.position));
    }
    const homographies = used.map((photo) => photo.camera?.homography ?? homographyOfCorners(photo.corners));
    if (this.areWhole()) {
      return homographies.map((homography, index) => record(homography, this.facts.nominalPositions[index]));
    }
    const poses = findPositions(homographies, used.map((photo) => photo.size));
    poses.forEach(({ tilt, position }, index) => {
      if (tilt <= STEEPEST && position[2] > 0 && position.every(Number.isFinite)) return;
      throw new Error(`By its corners, photo ${index + 1} was taken from so far aside that they are hardly right; check their places and their order.`);
    });
    return homographies.map((homography, index) => record(homography, poses[index].position));
  }

  async predict() {
    this.problems.replaceChildren();
    this.isBusy = true;
    this.changed();
    const begin = performance.now();
    const clock = setInterval(() => {
      this.say(`Predicting … ${((performance.now() - begin) / 1000).toFixed(0)} s`);
    }, 250);
    try {
      this.say("Predicting …");
      const photos = this.photos.slice(0, this.facts.views).map((photo) => photo.pixels);
      const cameras = this.camerasInUse();
      const compared = this.facts.aligned && this.areWhole();
      this.prediction = await this.model.call("predict", { photos, cameras, facts: this.facts, compared });
      await this.show();
      this.tellDisagreement();
      const whole = (performance.now() - begin) / 1000;
      this.say(`Predicted in ${whole.toFixed(1)} s; the model took ${this.prediction.seconds.toFixed(1)} s of them.`);
    } catch (error) {
      this.say("");
      this.complain(`The maps could not be predicted: ${error.message}`);
    } finally {
      clearInterval(clock);
      this.isBusy = false;
      this.changed();
    }
  }

  // Photos that are taken for cut, and show different pieces of the material.
  tellDisagreement() {
    const strange = this.prediction.agreements.findIndex((agreement) => agreement < LEAST_AGREEMENT);
    if (strange < 0) return;
    this.complain(`Photo ${strange + 2} hardly looks like photo 1 in the same frame. Unless both are cut to the same square of the material, mark its corners in each photo and predict again. (Smooth metals look different in each photo; there the maps may be right.)`);
  }

  async show() {
    const { maps, inputs } = this.prediction;
    this.files.clear();
    for (const [name, { low, high, file }] of Object.entries(this.facts.maps)) {
      this.files.set(file, { name, blob: await picture(maps[name], low, high) });
    }
    const views = [];
    const [, count, , size] = inputs.views.shape;
    for (let index = 0; index < count; index += 1) {
      const values = inputs.views.values.subarray(index * 3 * size * size, (index + 1) * 3 * size * size);
      views.push(await picture({ values, shape: [3, size, size] }, 0, 1));
    }
    const set = find("#set");
    for (const image of findAll("img", set)) URL.revokeObjectURL(image.src);
    const figure = (blob, id, label, group, kind, file) => {
      const element = document.createElement("figure");
      element.id = id;
      Object.assign(element.dataset, { group, label, kind });
      if (kind === "map") element.dataset.map = label;
      const image = document.createElement("img");
      image.src = URL.createObjectURL(blob);
      image.alt = kind === "map" ? `predicted ${label}` : `${label}, as the model saw it`;
      const caption = document.createElement("figcaption");
      caption.textContent = label;
      element.append(image, caption);
      if (file) {
        const button = document.createElement("button");
        button.type = "button";
        button.className = "button";
        button.textContent = "Save";
        button.setAttribute("aria-label", `Save ${file}`);
        button.addEventListener("click", () => save(blob, file));
        caption.append(" ", button);
      }
      return element;
    };
    const mapFigures = [...this.files].map(([file, { name, blob }]) => figure(blob, `map-${name}`, name, "maps", "map", file));
    find("#set-maps").replaceChildren(...mapFigures);
    find("#set-views").replaceChildren(
      ...views.map((blob, index) => figure(blob, `view-${index}`, `photo ${index + 1}`, "photos", "photo")),
    );
    this.results.hidden = false;
    if (!this.page) {
      this.page = new Page();
    } else {
      for (const element of findAll("figure", set)) this.page.makeButton(element);
      await this.page.show("set");
    }
    this.results.scrollIntoView({ behavior: "smooth", block: "start" });
  }

  async saveAll() {
    const files = [];
    for (const [file, { blob }] of this.files) files.push([file, new Uint8Array(await blob.arrayBuffer())]);
    save(zip(files), "maps.zip");
  }

  saveCameras() {
    try {
      // `infer` pairs cameras and photos by the order of names, which the arrows do not change.
      const cameras = this.camerasInUse();
      const ordered = sortByName(this.photos).map((photo) => cameras[this.photos.indexOf(photo)]);
      const text = JSON.stringify({ photos: ordered }, null, 2);
      save(new Blob([text], { type: "application/json" }), "cameras.json");
    } catch (error) {
      this.complain(error.message);
    }
  }
}

window.neuropbr = new App();
