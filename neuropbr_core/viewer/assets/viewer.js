// Connects the controls of the page with its pictures: the choice of a material, the wipe and the preview.

"use strict";

const find = (selector, within = document) => within.querySelector(selector);
const findAll = (selector, within = document) => [...within.querySelectorAll(selector)];

function readData(id) {
  const element = document.getElementById(id);
  return element && JSON.parse(element.textContent);
}

class Wipe {
  constructor(root) {
    this.root = root;
    this.left = find("[data-side=left]", root);
    this.right = find("[data-side=right]", root);
    this.slider = find("input[type=range]", root);
    this.choices = { left: find("select[name=left]", root), right: find("select[name=right]", root) };
    this.slider.addEventListener("input", () => this.move());
    for (const side of ["left", "right"]) {
      this.choices[side].addEventListener("change", () => this.show(side, this.choices[side].value));
    }
    find("[data-action=swap]", root).addEventListener("click", () => {
      const { left, right } = this.choices;
      const before = left.value;
      this.show("left", right.value);
      this.show("right", before);
    });
    this.move();
  }

  // set: the element with the pictures of one material.
  use(set) {
    this.figures = findAll("figure", set);
    for (const side of ["left", "right"]) {
      const select = this.choices[side];
      select.replaceChildren();
      let group = null;
      for (const figure of this.figures) {
        if (group === null || group.label !== figure.dataset.group) {
          group = document.createElement("optgroup");
          group.label = figure.dataset.group;
          select.append(group);
        }
        const option = document.createElement("option");
        option.value = figure.id;
        option.textContent = `${figure.dataset.label} (${figure.dataset.group})`;
        group.append(option);
      }
    }
    // A photo over the albedo shows what was taken away; without photos, two maps do.
    const [first, second] = this.startingPair();
    this.show("left", first.id);
    this.show("right", second.id);
  }

  startingPair() {
    const albedos = this.figures.filter((figure) => figure.dataset.map === "albedo" && figure.dataset.kind === "map");
    const photo = this.figures.find((figure) => figure.dataset.kind === "photo");
    if (albedos.length > 1) return albedos;
    return [photo || this.figures[1] || albedos[0], albedos[0] || this.figures[0]];
  }

  show(side, id) {
    const figure = this.figures.find((candidate) => candidate.id === id);
    if (!figure) return;
    const source = find("img", figure);
    this[side].src = source.src;
    this[side].alt = source.alt;
    this.choices[side].value = id;
    find(`[data-caption=${side}]`, this.root).textContent = `${figure.dataset.label} · ${figure.dataset.group}`;
    for (const other of this.figures) other.classList.toggle(`on-${side}`, other.id === id);
  }

  move() {
    this.root.style.setProperty("--wipe", `${this.slider.value}%`);
    this.slider.setAttribute("aria-valuetext", `${Math.round(this.slider.value)} % of the left picture`);
  }
}

class PreviewPanel {
  constructor(root, preview) {
    this.root = root;
    this.preview = preview;
    this.version = find("select[name=version]", root);
    this.version.addEventListener("change", () => this.showVersion());
    for (const radio of findAll("input[name=shape]", root)) {
      radio.addEventListener("change", () => preview.setShape(radio.value));
    }
    for (const box of findAll("input[name=map]", root)) {
      box.addEventListener("change", () => preview.setMapOn(box.value, box.checked));
    }
    this.bind("tiles", (value) => preview.setTiles(value), (value) => `${value} × ${value}`);
    this.bind("room", (value) => preview.setUniform("roomLight", value), (value) => `${Math.round(value * 100)} %`);
    this.bind("flash", (value) => preview.setUniform("flash", preview.settings.flash * value),
      (value) => `${Math.round(value * 100)} %`);
    this.bind("exposure", (value) => preview.setUniform("exposure", 2 ** value),
      (value) => `${value > 0 ? "+" : ""}${value} EV`);
    const degrees = (value) => `${value}°`;
    const moveLamp = () => preview.setLamp(this.radians("around"), this.radians("towards"));
    this.bind("around", moveLamp, degrees);
    this.bind("towards", moveLamp, degrees);
    preview.canvas.addEventListener("lampmoved", () => this.readLamp());
    this.turning = find("input[name=turning]", root);
    this.turning.addEventListener("change", () => this.turn());
    find("[data-action=reset]", root).addEventListener("click", () => this.reset());
    find("[data-action=save]", root).addEventListener("click", () => this.save());
    this.readLamp();
  }

  control(name) {
    return find(`input[name=${name}]`, this.root);
  }

  radians(name) {
    return (Number(this.control(name).value) * Math.PI) / 180;
  }

  bind(name, apply, text) {
    const control = this.control(name);
    const output = find(`output[for=${control.id}]`, this.root);
    const update = () => {
      output.textContent = text(Number(control.value));
      control.setAttribute("aria-valuetext", output.textContent);
    };
    control.addEventListener("input", () => {
      update();
      apply(Number(control.value));
    });
    control.refresh = update;
    update();
  }

  // After the lamp was moved in the picture, the controls follow it.
  readLamp() {
    const around = (this.preview.lampAround * 180) / Math.PI;
    this.control("around").value = Math.round((around + 360) % 360);
    this.control("towards").value = Math.round((this.preview.lampTowards * 180) / Math.PI);
    this.control("around").refresh();
    this.control("towards").refresh();
  }

  turn(before) {
    if (!this.turning.checked) return;
    requestAnimationFrame((now) => {
      if (before !== undefined) {
        // One round in eight seconds.
        this.preview.setLamp(this.preview.lampAround + ((now - before) / 8000) * 2 * Math.PI, this.preview.lampTowards);
        this.readLamp();
      }
      this.turn(now);
    });
  }

  reset() {
    for (const control of findAll("input", this.root)) {
      control.value = control.defaultValue;
      control.checked = control.defaultChecked;
    }
    this.preview.reset();
    for (const control of findAll("input[type=range]", this.root)) control.dispatchEvent(new Event("input"));
    this.preview.reset(); // the lamp once more: its controls round it to degrees
    for (const box of findAll("input[name=map]", this.root)) this.preview.setMapOn(box.value, box.checked);
    this.preview.setShape(find("input[name=shape]:checked", this.root).value);
    this.readLamp();
  }

  save() {
    const link = document.createElement("a");
    link.download = "preview.png";
    link.href = this.preview.canvas.toDataURL("image/png");
    link.click();
  }

  use(set) {
    this.set = set;
    this.version.replaceChildren();
    for (const version of findAll("[data-version]", set)) {
      const option = document.createElement("option");
      option.value = option.textContent = version.dataset.version;
      this.version.append(option);
    }
    find("[data-field=version]", this.root).hidden = this.version.options.length < 2;
    return this.showVersion();
  }

  async showVersion() {
    const version = findAll("[data-version]", this.set).find((one) => one.dataset.version === this.version.value);
    const images = {};
    for (const figure of findAll("figure[data-kind=map]", version)) images[figure.dataset.map] = find("img", figure);
    for (const box of findAll("input[name=map]", this.root)) box.disabled = !images[box.value];
    await this.preview.setMaps(images);
  }
}

class Page {
  constructor() {
    this.sets = findAll(".set");
    this.tabs = findAll("[data-shows]");
    const root = find("#viewer");
    if (!root) return;
    document.body.classList.add("has-program");
    this.wipe = new Wipe(find(".wipe", root));
    this.panel = this.makePanel(find(".preview", root));
    for (const tab of this.tabs) tab.addEventListener("click", () => this.show(tab.dataset.shows));
    for (const figure of findAll(".set figure")) this.makeButton(figure);
    this.show(this.sets[0].id);
  }

  makePanel(root) {
    const settings = readData("preview-settings");
    try {
      const preview = new Preview(find("canvas", root), settings, settings.shader);
      root.classList.add("is-live");
      return new PreviewPanel(root, preview);
    } catch (error) {
      // Old machines and locked-down browsers have no WebGL 2; all pictures are there without it.
      find("[data-message]", root).hidden = false;
      return null;
    }
  }

  makeButton(figure) {
    const image = find("img", figure);
    image.tabIndex = 0;
    image.setAttribute("role", "button");
    image.title = "Show in the comparison, on the right; with Shift on the left";
    const choose = (event) => this.wipe.show(event.shiftKey ? "left" : "right", figure.id);
    image.addEventListener("click", choose);
    image.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      choose(event);
    });
  }

  show(id) {
    for (const set of this.sets) set.hidden = set.id !== id;
    for (const tab of this.tabs) tab.setAttribute("aria-pressed", String(tab.dataset.shows === id));
    const set = document.getElementById(id);
    const ball = find("img.poster", set);
    const poster = find(".preview > .stage > img", document);
    if (poster && ball) {
      poster.src = ball.src;
      poster.alt = ball.alt;
    }
    this.wipe.use(set);
    return this.panel ? this.panel.use(set) : undefined;
  }
}
