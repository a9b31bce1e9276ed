// The ask page: a picture, words, and which of them fits; with a map of what speaks for one.

import { byId, el, toast } from "./dom.js";
import { locale, t } from "./strings.js";
import { drawn, send } from "./api.js";

let file = null;
let labels = [];
let chosen = null;
let abort = null;
const maps = new Map();

export function prepare() {
  byId("ask-file").addEventListener("change", (event) => { drop(event.target.files[0]); event.target.value = ""; });
  byId("label-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const words = byId("label").value.split(/[,\n;]/).map((word) => word.trim()).filter(Boolean);
    byId("label").value = "";
    if (words.length) setLabels([...new Set([...labels, ...words])]);
  });
}

export function show() {
  drawLabels();
}

export function relabel() {
  drawLabels();
  note();
}

/** A picture to be asked about. */
export function drop(given) {
  if (!given) return;
  file = given;
  const image = byId("ask-picture");
  if (image.src) URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(given);
  image.alt = given.name;
  image.onload = () => byId("ask-drop").style.setProperty("--ratio", `${image.naturalWidth} / ${image.naturalHeight}`);
  image.onerror = () => image.removeAttribute("src");
  image.hidden = false;
  byId("ask-drop").classList.add("full");
  byId("ask-drop-text").hidden = true;
  ask();
}

function setLabels(changed) {
  labels = changed;
  drawLabels();
  ask();
}

function drawLabels() {
  byId("labels").replaceChildren(...labels.map((label) => el("span", { class: "chip", role: "listitem" }, el("span", { class: "chip-text" }, ` ${label}`),
    el("button", { type: "button", "aria-label": `${t("chip.remove")}: ${label}`, onclick: () => setLabels(labels.filter((each) => each !== label)) }, "✕"))));
}

function note() {
  byId("ask-note").textContent = !file ? "" : labels.length < 2 ? t("ask.two") : t("ask.compare");
}

function form(extra = {}) {
  const data = new FormData();
  data.append("file", file);
  for (const label of labels) data.append("labels", label);
  for (const [name, value] of Object.entries(extra)) data.append(name, value);
  return data;
}

async function ask() {
  abort?.abort();
  abort = new AbortController();
  for (const address of maps.values()) URL.revokeObjectURL(address);
  maps.clear();
  chosen = null;
  byId("ask-map").hidden = byId("ask-legend").hidden = true;
  note();
  if (!file || !labels.length) {
    byId("answers").replaceChildren();
    return;
  }
  try {
    const found = await send("/classify", form(), abort.signal);
    byId("answers").replaceChildren(...found.labels.map(answer));
  } catch (error) {
    if (error.name !== "AbortError") byId("ask-note").textContent = error.message;
  }
}

function answer({ label, probability }) {
  const percent = probability.toLocaleString(locale(), { style: "percent", maximumFractionDigits: probability < 0.1 ? 1 : 0 });
  return el("li", {}, el("button", { type: "button", "aria-pressed": "false", "data-label-of": label, title: t("ask.map"), onclick: () => map(label) },
    el("b", {}, label), el("span", {}, percent), el("progress", { max: 1, value: probability, "aria-label": `${label}: ${percent}` })));
}

/** Show the map of a label, or take it away again. */
async function map(label) {
  chosen = chosen === label ? null : label;
  for (const button of byId("answers").querySelectorAll("button")) button.setAttribute("aria-pressed", String(button.dataset.labelOf === chosen));
  const image = byId("ask-map");
  image.hidden = byId("ask-legend").hidden = true;
  if (chosen === null) return note();
  byId("ask-note").textContent = t("ask.mapping");
  try {
    if (!maps.has(label)) maps.set(label, await drawn("/explain", form({ label }), abort.signal));
    if (chosen !== label) return;
    image.src = maps.get(label);
    image.alt = t("ask.map.of", { label });
    image.hidden = byId("ask-legend").hidden = false;
    note();
  } catch (error) {
    if (error.name !== "AbortError") toast(error.message);
  }
}
