// A wall of pictures that goes on as one scrolls. Each place has its shape before its picture comes: nothing jumps.

import { el, whenNear } from "./dom.js";
import { t } from "./strings.js";
import { open } from "./lightbox.js";

/** One picture's place. `tools`: [{text, label, act}] shown over it. */
export function tile(picture, list, tools) {
  const ratio = Math.min(Math.max((picture.width || 3) / (picture.height || 2), 0.4), 3);
  const image = el("img", { alt: "", loading: "lazy", decoding: "async", src: picture.thumbnail,
    onload: () => image.classList.add("there"), onerror: () => image.classList.add("there", "lost") });
  return el("div", { class: "tile", "--ratio": ratio.toFixed(4), "data-id": picture.id, role: "listitem" },
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
      this.next = null;
    } finally {
      this.asking = false;
    }
  }

  add(page) {
    this.next = page.next;
    this.pictures.push(...page.pictures);
    this.root.append(...page.pictures.map((picture) => tile(picture, this.pictures, this.tools)));
    if (page.next !== null) requestAnimationFrame(() => this.again());
  }

  clear() {
    this.turn += 1;
    this.next = null;
    this.ask = null;
    this.root.replaceChildren();
  }
}
