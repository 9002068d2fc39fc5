// A sheet to draw on: with mouse, finger or pen, and with the keyboard.

import { paint, trace } from "./pixels.js";

const PEN = 1 / 15; // width of the pen, the sheet being 1 wide
const STEP = 1 / 28; // of the pen by an arrow key
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Pad {
  strokes = [];
  #canvas;
  #shape; // of the model's images, and so of the sheet
  #changed;
  #picture = null; // pixels, shown in place of a drawing
  #drawing = false; // a pointer is down
  #pen = null; // where the keyboard's pen is, and whether it touches the sheet

  /** `changed(done)` is called while a stroke grows, and with `done` when it has ended. */
  constructor(canvas, shape, changed) {
    this.#canvas = canvas;
    this.#shape = shape;
    canvas.parentElement.style.setProperty("--ratio", shape[1] / shape[0]);
    this.#changed = changed;
    new ResizeObserver(() => this.#redraw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#redraw());
  }

  allowDrawing() {
    const canvas = this.#canvas;
    canvas.classList.add("drawable");
    canvas.addEventListener("pointerdown", event => this.#down(event));
    canvas.addEventListener("pointermove", event => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => this.#up());
    canvas.addEventListener("keydown", event => this.#key(event));
    canvas.addEventListener("blur", () => this.#lift());
  }

  show(pixels) {
    this.strokes = [];
    this.#picture = pixels;
    this.#redraw();
  }

  clear() {
    this.strokes = [];
    this.#picture = null;
    if (this.#pen) this.#pen.touches = false;
    this.#redraw();
    this.#changed(true);
  }

  undo() {
    this.strokes.pop();
    if (this.#pen) this.#pen.touches = false;
    this.#redraw();
    this.#changed(true);
  }

  #down(event) {
    if (event.button !== 0 || this.#drawing) return;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#drawing = true;
    this.#lift();
    this.#begin(this.#place(event));
  }

  #move(event) {
    if (!this.#drawing) return;
    const between = event.getCoalescedEvents?.() ?? [];
    for (const one of between.length ? between : [event]) this.#continue(this.#place(one));
  }

  #up() {
    if (!this.#drawing) return;
    this.#drawing = false;
    this.#changed(true);
  }

  #key(event) {
    if (event.altKey) return;
    if ((event.ctrlKey || event.metaKey) && event.key === "z") this.undo();
    else if (event.ctrlKey || event.metaKey) return;
    else if (event.key in ARROWS) this.#steer(ARROWS[event.key]);
    else if (event.key === " ") this.#touch();
    else if (event.key === "Escape" || event.key === "Delete" || event.key === "Backspace") this.clear();
    else return;
    event.preventDefault();
  }

  #steer([x, y]) {
    this.#pen ??= { at: [.5, .5], touches: false };
    this.#pen.at = [x, y].map((move, axis) => Math.max(0, Math.min(1, this.#pen.at[axis] + move * STEP)));
    if (this.#pen.touches) this.#continue(this.#pen.at);
    else this.#redraw();
  }

  #touch() {
    this.#pen ??= { at: [.5, .5], touches: false };
    this.#pen.touches = !this.#pen.touches;
    if (this.#pen.touches) this.#begin(this.#pen.at);
    else {
      this.#redraw();
      this.#changed(true);
    }
  }

  #lift() {
    if (!this.#pen) return;
    const touched = this.#pen.touches;
    this.#pen = null;
    this.#redraw();
    if (touched) this.#changed(true);
  }

  #begin(point) {
    this.#picture = null;
    this.strokes.push([point]);
    this.#redraw();
    this.#changed(false);
  }

  #continue(point) {
    this.strokes.at(-1).push(point);
    this.#redraw();
    this.#changed(false);
  }

  #place(event) {
    const box = this.#canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  #redraw() {
    const canvas = this.#canvas;
    if (this.#picture) {
      paint(canvas, this.#picture, this.#shape);
      return;
    }
    canvas.classList.remove("pixels");
    const tall = this.#shape[0] / this.#shape[1];
    canvas.width = Math.round(canvas.clientWidth * devicePixelRatio);
    canvas.height = Math.round(canvas.width * tall);
    const context = canvas.getContext("2d");
    context.scale(canvas.width, canvas.width);
    context.strokeStyle = getComputedStyle(canvas).color;
    trace(context, this.strokes, PEN, (x, y) => [x, y * tall]);
    if (!this.#pen) return;
    context.strokeStyle = getComputedStyle(canvas).getPropertyValue("--accent");
    context.beginPath();
    context.lineWidth = this.#pen.touches ? .02 : .008;
    const [x, y] = this.#pen.at;
    context.arc(x, y * tall, PEN * .75, 0, 2 * Math.PI);
    context.stroke();
  }
}
