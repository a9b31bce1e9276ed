// What can be made of a picture that was made: others like it, what lies between two of them, what a word changes.

import { byId, toast } from "./dom.js";
import { t } from "./strings.js";
import { post } from "./api.js";

/** Of a job's settings, those that are asked for again. */
const ASKED = { vary: ["picture", "count", "far"], blend: ["first", "second", "count", "own_noise"], edit: ["picture", "source", "target"] };
const VARIATIONS = 9;
/** Why none of it can be done here, or null. */
let missing = null;
let heard = () => {};
/** The picture that waits for another one, and the one that is being edited. */
let first = null;
let edited = null;

export function prepare(told) {
  heard = told;
  byId("blending-cancel").addEventListener("click", () => wait(null));
  byId("edit-cancel").addEventListener("click", () => byId("edit").close());
  byId("edit-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const { source, target } = event.target.elements;
    byId("edit").close();
    ask("edit", { picture: edited.of, source: source.value.trim(), target: target.value.trim() });
  });
}

export function allow(line) {
  missing = line;
}

export const isChange = (job) => job.kind in ASKED;

/** For a picture with `of` (its job and number there) and `prompt`: [{text, label, act, off}]. */
export const tools = () => [["vary", vary], ["blend", blend], ["edit", edit]].map(([name, act]) => ({ label: `made.${name}`, act, off: missing }));

/** The same once more, with another seed. */
export function another(job) {
  ask(job.kind, Object.fromEntries(ASKED[job.kind].filter((name) => name in job.settings).map((name) => [name, job.settings[name]])));
}

async function ask(kind, wish) {
  try {
    heard(await post(`/${kind}`, { ...wish, seed: String(Math.floor(Math.random() * 1e6)) }));
    scrollTo({ top: 0, behavior: "smooth" });
  } catch (error) {
    toast(error.message);
  }
}

function vary(picture) {
  ask("vary", { picture: picture.of, count: VARIATIONS });
}

function blend(picture) {
  if (!first) return wait(picture);
  const one = first;
  wait(null);
  ask("blend", { first: one.of, second: picture.of });
}

function wait(picture) {
  first = picture;
  byId("blending").hidden = !picture;
  byId("blending-text").textContent = picture ? t("blend.with", { prompt: picture.prompt }) : "";
}

function edit(picture) {
  edited = picture;
  const { source, target } = byId("edit-form").elements;
  source.value = picture.prompt;
  target.value = picture.prompt;
  byId("edit").showModal();
  target.select();
}
