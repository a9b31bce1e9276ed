// A wall of pictures that goes on as one scrolls. Each place has its shape before its picture comes: nothing jumps.

import { el, whenNear } from "./dom.js";
import { t } from "./strings.js";
import { open } from "./lightbox.js";

/** Width by height; the longest and tallest are shown in part. */
const ratioOf = (picture) => Math.min(Math.max((picture.width || 3) / (picture.height || 2), 0.4), 3);

/** One picture's place. `tools`: [{text, label, act}] shown over it. */
export function tile(picture, list, tools) {
  const image = el("img", { alt: "", loading: "lazy", decoding: "async", src: picture.thumbnail,
    onload: () => image.classList.add("there"), onerror: () => image.classList.add("there", "lost") });
  return el("div", { class: "tile", "--ratio": ratioOf(picture).toFixed(4), "data-id": picture.id, role: "listitem" },
    el("button", { type: "button", "aria-label": picture.name, title: picture.name, onclick: () => open(list, list.indexOf(picture), tools) }, image),
    el("div", { class: "tile-tools" }, ...tools.map((tool) =>
      el("button", { type: "button", title: t(tool.label), "aria-label": `${t(tool.label)}: ${picture.name}`, onclick: () => tool.act(picture) }, t(tool.text)))));
}

/** Arrow keys go from picture to picture. */
export function walkable(container) {
  container.setAttribute("role", "list");
  container.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
    if (!step || !event.target.closest(".tile")) return;
    const tiles = [...container.querySelectorAll(".tile > button")];
    const here = tiles.indexOf(event.target.closest(".tile").firstElementChild);
    tiles[Math.min(Math.max(here + step, 0), tiles.length - 1)]?.focus();
    event.preventDefault();
  });
}

export class Gallery {
  /** root: where the pictures go; sentinel: what, when it comes near, asks for more. */
  constructor(root, sentinel, tools) {
    this.root = root;
    this.tools = tools;
    this.pictures = [];
    this.held = [];
    this.next = null;
    this.ask = null;
    this.turn = 0;
    this.again = whenNear(sentinel, () => this.more());
    walkable(root);
  }

  /** Show what `ask(offset)` answers, and more of it as one scrolls. What is there stays until the new comes. */
  async show(ask) {
    const turn = ++this.turn;
    this.ask = ask;
    const page = await ask(0);
    if (turn !== this.turn) return null;
    this.pictures = [];
    this.held = [];
    this.next = null;
    this.root.replaceChildren();
    this.add(page);
    return page;
  }

  async more() {
    if (this.next === null || this.asking || !this.ask) return;
    const turn = this.turn;
    this.asking = true;
    try {
      const page = await this.ask(this.next);
      if (turn === this.turn) this.add(page);
    } catch {
      if (turn === this.turn) this.next = null;
    } finally {
      this.asking = false;
      if (turn !== this.turn) this.again();
    }
  }

  add(page) {
    this.next = page.next;
    this.pictures.push(...page.pictures);
    // A row that is not full yet would change when the next pictures come, so it is held back until then.
    const waiting = [...this.held, ...page.pictures];
    const ready = page.next === null ? waiting.length : this.wholeRows(waiting);
    this.held = waiting.slice(ready);
    this.root.append(...waiting.slice(0, ready).map((picture) => tile(picture, this.pictures, this.tools)));
    if (page.next !== null) requestAnimationFrame(() => this.again());
  }

  /** How many of the pictures fill their rows, as the style sheet breaks them. */
  wholeRows(pictures) {
    const style = getComputedStyle(this.root);
    const row = parseFloat(style.getPropertyValue("--row")) * parseFloat(getComputedStyle(document.documentElement).fontSize);
    const [gap, width] = [parseFloat(style.columnGap), this.root.clientWidth];
    let [begun, length] = [0, 0];
    pictures.forEach((picture, place) => {
      const needed = ratioOf(picture) * row;
      length += needed + (length ? gap : 0);
      if (length > width && place > begun) [begun, length] = [place, needed];
    });
    return begun;
  }

  clear() {
    this.held = [];
    this.turn += 1;
    this.next = null;
    this.ask = null;
    this.root.replaceChildren();
  }
}
