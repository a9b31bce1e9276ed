// One picture, large, with what is known of it. Arrow keys go on, Escape closes.

import { byId, el, toast } from "./dom.js";
import { locale, t } from "./strings.js";
import { get } from "./api.js";

let shown = null;

/** Open at a place of a list of pictures; the list may grow meanwhile. */
export function open(list, place, tools) {
  const dialog = byId("lightbox");
  shown = { list, place, tools };
  if (!dialog.open) dialog.showModal();
  draw();
}

function step(by) {
  const place = shown.place + by;
  if (place < 0 || place >= shown.list.length) return;
  shown.place = place;
  draw();
}

function draw() {
  const dialog = byId("lightbox");
  const picture = shown.list[shown.place];
  const had = document.activeElement?.dataset?.key;
  const facts = el("dl");
  const tools = shown.tools.map((tool) => el("button", { class: "button small", type: "button", disabled: Boolean(tool.off), title: tool.off,
    onclick: () => { dialog.close(); tool.act(picture); } }, t(tool.label)));
  const [last, end] = [shown.place === 0, shown.place === shown.list.length - 1];
  dialog.replaceChildren(
    el("div", { class: "stage" }, ...layers(picture),
      last ? null : el("button", { class: "round previous", type: "button", "data-key": "previous", "aria-label": t("lightbox.previous"), onclick: () => step(-1) }, "‹"),
      end ? null : el("button", { class: "round next", type: "button", "data-key": "next", "aria-label": t("lightbox.next"), onclick: () => step(1) }, "›")),
    el("aside", {}, el("h2", {}, picture.name), facts,
      el("div", { class: "row" }, ...tools, el("a", { class: "button small", href: picture.full, download: picture.name }, t("lightbox.download")))),
    el("button", { class: "round close", type: "button", "data-key": "close", "aria-label": t("lightbox.close"), onclick: () => dialog.close() }, "✕"));
  (dialog.querySelector(`[data-key="${had}"]`) ?? dialog.querySelector(".close")).focus();
  if (picture.facts) fill(facts, picture.facts);
  else describe(picture, facts);
}

/** The small copy at once, the picture itself over it when it has come. */
function layers(picture) {
  if (picture.video) return [el("video", { src: picture.video, controls: true, loop: true })];
  const size = { width: picture.width, height: picture.height };
  const large = el("img", { src: picture.full, alt: picture.name, ...size });
  if (!picture.thumbnail || picture.thumbnail === picture.full) return [large];
  const under = el("img", { class: "under", src: picture.thumbnail, alt: "", ...size });
  large.addEventListener("load", () => under.remove());
  return [under, large];
}

async function describe(picture, list) {
  try {
    const known = await get(`/pictures/${picture.id}`);
    const date = known.taken ? new Date(known.taken) : null;
    fill(list, {
      taken: date && !isNaN(date) ? date.toLocaleString(locale(), { dateStyle: "long", timeStyle: "short" }) : null,
      camera: known.camera,
      size: known.width ? `${known.width} × ${known.height}` : null,
      type: known.format,
      place: known.latitude === null ? null : `${known.latitude.toFixed(4)}, ${known.longitude.toFixed(4)}`,
      bytes: fileSize(known.bytes),
      folder: known.folder,
      score: picture.score === null ? null : picture.score.toFixed(3),
    });
  } catch (error) {
    toast(error.message);
  }
}

/** Bytes as people read them: of small files kilobytes. */
function fileSize(bytes) {
  const [size, unit] = bytes < 1e6 ? [bytes / 1e3, "kB"] : [bytes / 1e6, "MB"];
  return `${size.toLocaleString(locale(), { maximumSignificantDigits: 3 })} ${unit}`;
}

function fill(list, facts) {
  for (const [name, value] of Object.entries(facts)) {
    if (value) list.append(el("dt", {}, t(`fact.${name}`)), el("dd", {}, String(value)));
  }
}

export function prepare() {
  const dialog = byId("lightbox");
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") step(1);
    if (event.key === "ArrowLeft") step(-1);
  });
  dialog.addEventListener("close", () => {
    const id = shown?.list[shown.place]?.id;
    dialog.replaceChildren();
    document.querySelector(`.tile[data-id="${id}"] > button`)?.focus({ preventScroll: false });
  });
}
