// The page: asks the server what it serves, then sends what is drawn, dropped, pasted or picked.

import { Pad } from "./pad.js";
import { fromPicture, fromStrokes, lightAtEdge, nested, paint, readPicture } from "./pixels.js";

const ROWS = 10; // bars; of more classes the most probable
const LONGEST_LINE = 100_000; // characters that a shell takes as one argument

const at = id => document.getElementById(id);
const make = (tag, attributes = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), attributes);
  element.append(...children);
  return element;
};
const percent = share => `${(100 * share).toFixed(1)} %`;
const number = count => count.toLocaleString("en");

class Page {
  #model;
  #shape;
  #pad;
  #picture = null; // what was dropped, pasted or chosen
  #waiting = null; // what is to be sent as soon as an answer is there: the latest only
  #asking = false;

  constructor(model) {
    this.#model = model;
    this.#shape = model.card.input.shape;
    this.#pad = new Pad(at("pad"), this.#shape, done => this.#drawn(done));
    this.#describe();
    this.#layBars();
    this.#offerDrawing();
    this.#offerPictures();
    this.#offerExamples();
    this.#rest();
    at("copy").addEventListener("click", copy);
    addEventListener("focus", () => this.#renew());
  }

  /** What is served may have changed since. */
  async #renew() {
    const model = await described();
    if (!model || JSON.stringify(model) === JSON.stringify(this.#model)) return;
    const kind = ({ card }) => JSON.stringify([card.input, card.classes]);
    if (kind(model) !== kind(this.#model)) location.reload();
    this.#model = model;
    this.#describe();
    this.#offerExamples();
  }

  get #draws() {
    return this.#shape[2] === 1;
  }

  #describe() {
    const { name, card, versions, backend, accuracy } = this.#model;
    const [height, width, channels] = this.#shape;
    const { dataset = {} } = card;
    document.title = `Try ${name}`;
    at("name").textContent = name;
    at("versions").textContent = versions.length === 1
      ? `version ${versions[0].version}`
      : versions.map(one => `version ${one.version}: ${one.percent} %`).join(", ");
    const facts = {
      "Network": [card.architecture, card.parameters && `${number(card.parameters)} parameters`],
      "Input": [`${height} × ${width} ${channels === 1 ? "grey" : "colour"} images`],
      "Classes": [number(card.classes.length)],
      "Training data": [dataset.name, dataset.train_examples && `${number(dataset.train_examples)} images`, dataset.source],
      "Accuracy": [accuracy !== null && `${(100 * accuracy).toFixed(2)} % of ${number(this.#model.test_examples)} test images`],
      "Runtime": [backend],
    };
    const told = Object.entries(facts).map(([name, parts]) => [name, parts.filter(Boolean).join(", ")]).filter(([, text]) => text);
    at("card").replaceChildren(...told.flatMap(([name, text]) => [
      make("dt", { textContent: name }), make("dd", { textContent: text })]));
  }

  #layBars() {
    at("bars").replaceChildren(...this.#model.card.classes.slice(0, ROWS).map(name => make("li", {},
      make("span", { className: "name", textContent: name }),
      make("span", { className: "track" }, make("span", { className: "fill" })),
      make("span", { className: "share" }))));
  }

  #offerDrawing() {
    const pad = at("pad");
    at("clear").addEventListener("click", () => this.#clear());
    if (!this.#draws) {
      pad.setAttribute("aria-label", "The image sent");
      pad.removeAttribute("tabindex");
      at("undo").hidden = true;
      pad.removeAttribute("aria-describedby");
      at("invitation").textContent = handheld() ? "Choose an image or take a photo" : "Drop or paste an image";
      at("elsewhere").hidden = true;
      return;
    }
    pad.setAttribute("aria-label", "Drawing area");
    pad.setAttribute("role", "application"); // so that screen readers pass the arrow keys on
    at("invitation").textContent = this.#digits() ? "Draw a digit" : "Draw here";
    at("undo").addEventListener("click", () => this.#pad.undo());
    this.#pad.allowDrawing();
  }

  #digits() {
    return this.#model.card.classes.every(name => /^\d$/.test(name));
  }

  #offerPictures() {
    const take = async file => {
      if (!file) return;
      try {
        this.#picture = await readPicture(file);
      } catch {
        this.#fail(`${file.name || "what was given"} is no image that this browser reads`);
        return;
      }
      at("swap").checked = this.#otherwiseLit();
      this.#showPicture();
    };
    at("photograph").hidden = !handheld();
    for (const [button, input] of [["choose", "file"], ["photograph", "camera"]]) {
      at(button).addEventListener("click", () => at(input).click());
      at(input).addEventListener("change", event => {
        take(event.target.files[0]);
        event.target.value = "";
      });
    }
    at("swap").addEventListener("change", () => this.#showPicture());
    addEventListener("paste", event => take(event.clipboardData.files[0]));
    const over = hovers => event => {
      event.preventDefault();
      document.body.classList.toggle("over", hovers);
    };
    addEventListener("dragover", over(true));
    addEventListener("dragleave", over(false));
    addEventListener("drop", event => {
      over(false)(event);
      take(event.dataTransfer.files[0]);
    });
  }

  /** Whether a grey picture has a light edge where the model's examples have a dark one, or the other way round. */
  #otherwiseLit() {
    const [example] = this.#model.examples;
    if (!this.#draws) return false;
    const expected = example ? lightAtEdge(example.instance.flat(2), this.#shape) : false;
    return lightAtEdge(fromPicture(this.#picture, this.#model.card.input, false), this.#shape) !== expected;
  }

  #showPicture() {
    const pixels = fromPicture(this.#picture, this.#model.card.input, at("swap").checked);
    at("swap-label").hidden = false;
    this.#show(pixels);
  }

  #offerExamples() {
    const buttons = this.#model.examples.map(({ instance, label }) => {
      const canvas = make("canvas");
      paint(canvas, instance.flat(2), this.#shape);
      const button = make("button", { type: "button", title: label, ariaLabel: `Example: ${label}` }, canvas);
      button.addEventListener("click", () => {
        this.#forgetPicture();
        this.#show(instance.flat(2), label);
      });
      return make("li", {}, button);
    });
    at("examples").hidden = !buttons.length;
    at("examples").querySelector("ul").replaceChildren(...buttons);
  }

  #show(pixels, label = null) {
    this.#pad.show(pixels);
    at("invitation").hidden = true;
    at("clear").disabled = false;
    at("undo").disabled = true;
    this.#ask({ pixels, label, done: true });
  }

  #drawn(done) {
    const { strokes } = this.#pad;
    if (!strokes.length) {
      this.#rest();
      return;
    }
    this.#forgetPicture();
    at("invitation").hidden = true;
    at("clear").disabled = at("undo").disabled = false;
    this.#ask({ pixels: fromStrokes(strokes, this.#shape), label: null, done });
  }

  #forgetPicture() {
    this.#picture = null;
    at("swap-label").hidden = true;
  }

  #clear() {
    this.#forgetPicture();
    this.#pad.clear();
  }

  /** As it is before anything was sent. */
  #rest() {
    this.#waiting = null;
    at("invitation").hidden = false;
    at("seen").hidden = at("save").hidden = at("copy").hidden = true;
    at("clear").disabled = at("undo").disabled = true;
    at("label").textContent = this.#draws ? "The prediction updates while you draw." : "The prediction appears at once.";
    at("label").className = "waiting";
    at("remark").textContent = at("spoken").textContent = at("curl").textContent = "";
    for (const row of at("bars").children) this.#fill(row, null);
  }

  async #ask(question) {
    this.#waiting = question;
    if (this.#asking) return;
    this.#asking = true;
    while (this.#waiting) {
      const { pixels, label, done } = this.#waiting;
      this.#waiting = null;
      const body = JSON.stringify({ instances: [nested(pixels, this.#shape)] });
      try {
        const { probabilities, version } = await this.#send(body);
        if (this.#pad.strokes.length || !at("clear").disabled) this.#tell(probabilities, { pixels, label, done, version, body });
      } catch (error) {
        this.#fail(error.message);
      }
    }
    this.#asking = false;
  }

  async #send(body) {
    const path = `v1/models/${this.#model.name}:predict`;
    const headers = { "Content-Type": "application/json" };
    const response = await fetch(path, { method: "POST", headers, body }).catch(() => {
      throw new Error("The server does not answer.");
    });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    return { probabilities: answer.predictions[0], version: response.headers.get("Model-Version") };
  }

  #tell(probabilities, { pixels, label, done, version, body }) {
    const { classes } = this.#model.card;
    const order = classes.map((_, index) => index).sort((a, b) => probabilities[b] - probabilities[a]);
    const [best] = order;
    if (!this.#model.versions.some(one => String(one.version) === version)) this.#renew();
    const several = this.#model.versions.length > 1 ? `, version ${version}` : "";
    const truth = label === null ? "" : label === classes[best] ? ", right" : `, it is ${label}`;
    const remark = `${percent(probabilities[best])}${truth}${several}`;
    at("label").textContent = classes[best];
    at("label").className = classes[best].length > 3 ? "long" : "";
    at("remark").textContent = remark;
    const shown = classes.length > ROWS ? order.slice(0, ROWS) : classes.keys();
    [...shown].forEach((index, row) => this.#fill(at("bars").children[row], probabilities[index], classes[index], index === best));
    at("seen").hidden = false;
    paint(at("seen").querySelector("canvas"), pixels, this.#shape);
    this.#showRequest(body);
    if (done) at("spoken").textContent = `${classes[best]}, ${remark}`;
  }

  #fill(row, share, name = null, chosen = false) {
    if (name !== null) row.querySelector(".name").textContent = name;
    row.classList.toggle("chosen", chosen);
    row.querySelector(".fill").style.width = `${100 * (share ?? 0)}%`;
    row.querySelector(".share").textContent = share === null ? "" : percent(share);
  }

  #showRequest(body) {
    const url = new URL(`v1/models/${this.#model.name}:predict`, location.href);
    const short = body.length < LONGEST_LINE;
    at("curl").textContent = `curl ${url} \\\n  -d ${short ? `'${body}'` : "@request.json"}`;
    at("copy").hidden = false;
    at("save").hidden = short;
    URL.revokeObjectURL(at("save").href);
    if (!short) at("save").href = URL.createObjectURL(new Blob([body], { type: "application/json" }));
  }

  #fail(message) {
    at("label").textContent = at("spoken").textContent = message;
    at("label").className = "wrong";
    at("remark").textContent = "";
    for (const row of at("bars").children) this.#fill(row, null);
  }
}

/** Whether this is a phone or tablet, whose camera a page can ask for. */
function handheld() {
  return matchMedia("(pointer: coarse)").matches;
}

async function copy() {
  const button = at("copy");
  try {
    await navigator.clipboard.writeText(at("curl").textContent);
    button.textContent = "Copied";
  } catch { // only pages of this machine or over TLS may write there
    getSelection().selectAllChildren(at("curl"));
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

async function described() {
  const response = await fetch("page/model.json").catch(() => null);
  return response?.ok ? response.json() : null;
}

const model = await described();
if (model) new Page(model);
else at("label").textContent = "No version is loaded; reload the page later.";
