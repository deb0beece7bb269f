// The page's program: sends photos to the server, shows what it tells about a job, and starts the preview.
// `find`, `findAll`, `readData` and `Page` are the viewer's (viewer.js).

"use strict";

const settings = readData("app-settings");
const STEPS = { collecting: "", waiting: "Waiting", working: "Working", done: "Done", failed: "Failed" };
const LOST = "The connection to the app is lost; trying again.";

class Job {
  constructor() {
    this.state = null;
    this.uploads = 0;
    this.cards = new Map();
    const match = location.pathname.match(/^\/jobs\/([\w-]+)$/);
    this.id = match && match[1];
    this.listen();
    this.updateStart();
    if (this.id) this.look().then(() => this.restore());
  }

  // After a reload: what was chosen for the last start.
  restore() {
    if (this.state && this.state.first !== null) find("#name").value = this.state.name;
  }

  get address() {
    return `/jobs/${this.id}`;
  }

  listen() {
    const drop = find("#drop");
    const picker = find("#files");
    picker.addEventListener("change", () => {
      const files = [...picker.files];
      picker.value = ""; // the same file can then be chosen again
      this.add(files);
    });
    // Anywhere on the page, because a file that misses the drop zone would replace the page.
    document.addEventListener("dragover", (event) => {
      event.preventDefault();
      drop.classList.add("is-over");
    });
    document.addEventListener("dragleave", (event) => {
      if (!event.relatedTarget) drop.classList.remove("is-over");
    });
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      drop.classList.remove("is-over");
      this.add([...event.dataTransfer.files]);
    });
    find("#start").addEventListener("click", () => this.start());
    find("#zip").addEventListener("click", () => this.orderZip());
    find("#remove").addEventListener("click", () => this.remove());
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.unfollow();
      else if (this.isBusy()) this.look();
    });
  }

  // Sends a request; an answer that is no success becomes an error with the server's words.
  async ask(path, options = {}) {
    let answer;
    try {
      answer = await fetch(path, options);
    } catch (error) {
      throw new Error("The app does not answer. It may have been ended; start it again with neuropbr app.");
    }
    const text = await answer.text();
    let value = {};
    try {
      value = JSON.parse(text);
    } catch (error) {
      // no JSON, such as the preview
    }
    if (!answer.ok) throw Object.assign(new Error(value.error || `The app answers ${answer.status}.`), { status: answer.status });
    return answer.headers.get("content-type")?.startsWith("application/json") ? value : text;
  }

  send(path, values) {
    return this.ask(path, { method: "POST", body: JSON.stringify(values) });
  }

  complain(error) {
    const problem = find("#problem");
    problem.textContent = error ? error.message : "";
    problem.hidden = !error;
    if (error) problem.scrollIntoView({ block: "nearest" });
  }

  announce(text) {
    const status = find("#status");
    if (status.textContent !== text) status.textContent = text;
  }

  async look() {
    try {
      this.show(await this.ask(`${this.address}/state`));
    } catch (error) {
      this.complain(error);
    }
  }

  async add(files) {
    if (!files.length) return;
    if (this.state && !["collecting", "failed"].includes(this.state.state)) {
      this.complain(new Error("These photos are complete. Begin another material for more."));
      return;
    }
    this.complain(null);
    // Photos of one set are numbered in the order in which they were taken.
    files.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
    this.uploads += 1;
    this.updateStart();
    const problems = [];
    try {
      if (!this.id) await this.create();
      for (const [index, file] of files.entries()) {
        this.announce(`Adding photo ${index + 1} of ${files.length}`);
        // One that the server would refuse need not be sent.
        if (file.size > settings.photoBytes) {
          problems.push(`${file.name}: is larger than ${Math.round(settings.photoBytes / 2 ** 20)} MiB`);
          continue;
        }
        try {
          // A photo that cannot be used is no error: its card has the reason, and the others go on.
          await this.ask(`${this.address}/photos?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file });
        } catch (error) {
          problems.push(error.message);
          if (error.status === undefined) break; // the app is gone
        }
        await this.look();
      }
    } catch (error) {
      problems.push(error.message);
    }
    this.uploads -= 1;
    if (problems.length) this.complain(new Error([...new Set(problems)].join("\n")));
    this.updateStart();
    this.announce(`Photos that can be used: ${this.usable().length}`);
  }

  // One promise for all: photos that are dropped before the answer belong to the same material.
  create() {
    this.creation ??= this.send("/jobs", {}).then((job) => {
      this.id = job.id;
      // The address brings back this material, after the page was closed too.
      history.pushState(null, "", this.address);
    }).finally(() => {
      this.creation = null;
    });
    return this.creation;
  }

  usable() {
    return this.state ? this.state.photos.filter((photo) => !["refused", "uploading"].includes(photo.state)) : [];
  }

  updateStart() {
    find("#start").disabled = this.uploads > 0 || !this.usable().length;
  }

  async start() {
    this.complain(null);
    const first = find("input[name=first]:checked");
    try {
      this.show(await this.send(`${this.address}/start`, {
        name: find("#name").value,
        first: first ? Number(first.value) : null,
      }));
    } catch (error) {
      this.complain(error);
    }
  }

  async orderZip() {
    this.complain(null);
    const targets = findAll("input[name=target]:checked").map((box) => box.value);
    try {
      this.show(await this.send(`${this.address}/zips`, { targets, tileable: find("#tileable").checked }));
    } catch (error) {
      this.complain(error);
    }
  }

  async remove() {
    try {
      await this.ask(this.address, { method: "DELETE" });
    } catch (error) {
      if (error.status !== 404) {
        this.complain(error);
        return;
      }
    }
    location.assign("/");
  }

  // state: a snapshot of the server; the page shows nothing else.
  show(state) {
    if (this.state && state.version < this.state.version) return; // an answer that was overtaken
    this.state = state;
    const open = ["collecting", "failed"].includes(state.state);
    find("#drop").hidden = !open;
    find("#starting").hidden = !open;
    this.showCards(open);
    this.updateStart();
    const progress = find("#progress");
    progress.hidden = state.state === "collecting";
    this.showStep();
    this.showLines();
    if (state.state === "done") this.showResult();
    find("#packages").hidden = state.state !== "done";
    this.showZips();
    if (this.isBusy()) this.follow();
  }

  isBusy() {
    const waits = (item) => ["waiting", "working"].includes(item.state);
    return this.state !== null && [this.state, ...this.state.zips].some(waits);
  }

  showStep() {
    const { state, step, before, bar, error } = this.state;
    let text = step || STEPS[state];
    if (state === "waiting" && before) {
      text = before === 1 ? "1 other material comes before this one" : `${before} other materials come before this one`;
    }
    if (state === "failed") text = `Failed: ${error}`;
    const counted = bar && bar.total ? `${text}: ${bar.what}, ${bar.done} of ${bar.total}` : text;
    find("#step").textContent = counted;
    find("#step").classList.toggle("warning", state === "failed");
    if (state !== "collecting") this.announce(text);
    const element = find("#bar");
    element.hidden = !["waiting", "working"].includes(state);
    if (bar && bar.total) {
      element.max = bar.total;
      element.value = bar.done;
    } else {
      element.removeAttribute("value"); // moves to and fro
    }
  }

  showLines() {
    const list = find("#lines");
    const { lines } = this.state;
    if (list.childElementCount === lines.length && (!lines.length || list.lastChild.textContent === lines.at(-1).text)) return;
    list.replaceChildren(...lines.map(({ text, warning }) => {
      const item = document.createElement("li");
      item.textContent = text;
      item.classList.toggle("warning", warning);
      return item;
    }));
  }

  showCards(open) {
    const list = find("#cards");
    const numbers = new Set(this.state.photos.map((photo) => photo.number));
    for (const [number, card] of this.cards) {
      if (numbers.has(number)) continue;
      card.remove();
      this.cards.delete(number);
    }
    for (const photo of this.state.photos) {
      if (!this.cards.has(photo.number)) {
        const card = this.makeCard(photo);
        this.cards.set(photo.number, card);
        list.append(card);
      }
      this.fillCard(this.cards.get(photo.number), photo, open);
    }
    // Somebody has to be the first; it is the first photo unless another one was chosen.
    const radios = findAll("input[name=first]:not(:disabled)", list);
    if (radios.length && !radios.some((radio) => radio.checked)) radios[0].checked = true;
  }

  makeCard(photo) {
    const card = document.createElement("li");
    const picture = document.createElement("div");
    picture.className = "blank";
    const name = document.createElement("b");
    name.textContent = photo.name; // as text: a file's name may look like HTML
    const row = document.createElement("div");
    row.className = "row";
    const label = document.createElement("label");
    label.className = "check";
    label.hidden = !settings.matches;
    const radio = Object.assign(document.createElement("input"), { type: "radio", name: "first", value: photo.number });
    radio.checked = photo.number === this.state.first;
    label.append(radio, "from above");
    label.title = "This photo was taken from straight above; the others are matched to it.";
    const button = Object.assign(document.createElement("button"), { type: "button", className: "button", textContent: "Remove" });
    button.setAttribute("aria-label", `Remove ${photo.name}`);
    button.addEventListener("click", () => this.leaveOut(photo.number));
    row.append(label, button);
    card.append(picture, name, document.createElement("p"), row);
    return card;
  }

  fillCard(card, photo, open) {
    const usable = !["refused", "uploading"].includes(photo.state);
    card.dataset.state = photo.state;
    if (usable && !find("img", card)) {
      const image = document.createElement("img");
      image.src = `${this.address}/photos/${photo.number}`;
      image.alt = `Photo ${photo.name}`;
      find(".blank", card).replaceWith(image);
    }
    const texts = {
      uploading: "is being read",
      uploaded: photo.size,
      refused: `not used: ${photo.reason}`,
      used: photo.number === this.state.first || photo.confidence === null ? "used" : `matched, ${Math.round(photo.confidence * 100)} % alike`,
      "left out": `left out: ${photo.reason}`,
    };
    let text = texts[photo.state];
    if (settings.matches && photo.state === "used" && photo.number === this.state.first) text = "from above; the others are matched to it";
    if (usable && photo.state !== "left out" && photo.reason) text += `. ${photo.reason}`;
    find("p", card).textContent = text;
    find(".row", card).hidden = !open;
    const radio = find("input", card);
    radio.disabled = !usable;
    find("label", card).hidden = !settings.matches || !usable;
  }

  async leaveOut(number) {
    this.complain(null);
    try {
      this.show(await this.ask(`${this.address}/photos/${number}`, { method: "DELETE" }));
      find("#files").focus();
    } catch (error) {
      this.complain(error);
    }
  }

  async showResult() {
    if (this.hasResult) return;
    this.hasResult = true;
    const facts = this.state.facts.map(([name, value]) => {
      const item = document.createElement("li");
      const label = document.createElement("b");
      label.textContent = name;
      item.append(label, ` ${value}`);
      return item;
    });
    find("#facts").replaceChildren(...facts);
    find("#result-title").textContent = this.state.name;
    document.title = `${this.state.name} · NeuroPBR`;
    try {
      // The server wrote it with every text escaped, and the page's policy runs no program in it.
      find("#preview").innerHTML = await this.ask(`${this.address}/preview`);
    } catch (error) {
      this.hasResult = false;
      this.complain(error);
      return;
    }
    find("#result").hidden = false;
    window.neuropbr = new Page();
    // For those who waited with the keyboard or a screen reader; others see it anyway.
    find("#result-title").focus({ preventScroll: true });
  }

  showZips() {
    const texts = {
      waiting: (zip) => (zip.before ? `waits, ${zip.before} before it` : "waits"),
      working: () => "is being made",
      done: (zip) => `${(zip.bytes / 2 ** 20).toFixed(1)} MiB`,
      failed: (zip) => `failed: ${zip.error}`,
    };
    const items = this.state.zips.map((zip) => {
      const item = document.createElement("li");
      item.className = zip.state;
      const what = `${zip.targets.join(", ")}${zip.tileable ? ", tileable" : ""}`;
      if (zip.state === "done") {
        const link = document.createElement("a");
        link.href = `${this.address}/zips/${zip.key}`;
        link.download = "";
        link.textContent = `Download ${what}`;
        item.append(link, `: ${texts.done(zip)}`);
      } else {
        item.textContent = `${what}: ${texts[zip.state](zip)}`;
      }
      return item;
    });
    const list = find("#zips");
    const html = items.map((item) => item.outerHTML).join("");
    if (list.innerHTML === html) return;
    list.replaceChildren(...items);
    const last = this.state.zips.at(-1);
    if (last) this.announce(`Zip file ${last.targets.join(", ")}: ${texts[last.state](last)}`);
  }

  // Listens to the server until nothing is done for this job any more. A tab that nobody sees does not listen: browsers
  // open six connections to a host, and each tab that listens takes one of them.
  follow() {
    if (this.events || document.hidden) return;
    const events = new EventSource(`${this.address}/events`);
    this.events = events;
    events.addEventListener("message", (event) => {
      if (find("#problem").textContent === LOST) this.complain(null); // other errors stay
      this.show(JSON.parse(event.data));
    });
    events.addEventListener("rest", () => this.unfollow());
    events.addEventListener("error", () => {
      // The browser tries again by itself unless the server refused.
      if (events.readyState === EventSource.CLOSED) {
        this.unfollow();
        this.look();
      } else {
        this.complain(new Error(LOST));
      }
    });
  }

  unfollow() {
    this.events?.close();
    this.events = null;
  }
}

window.job = new Job();
