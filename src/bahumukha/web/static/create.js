// The create page: a sentence becomes a picture while one watches.

import { byId, el, toast, whenNear } from "./dom.js";
import { locale, t } from "./strings.js";
import { get, listen, post, remove } from "./api.js";
import { open } from "./lightbox.js";
import * as changes from "./changes.js";

const PAGE = 24;
const PAINTING = "vqgan-clip";
const RATIOS = { landscape: 4 / 3, widescreen: 16 / 9, portrait: 3 / 4, phone: 9 / 16 };
/** Jobs that are not over, by id, with what shows them. */
const open_jobs = new Map();
/** Of those that are over, the ids: an answer may come after the stream's later news. */
const over = new Set();
let next = 0;
let loading = false;
let again = () => {};
/** What the server makes pictures with, by name. */
let generators = {};

export function prepare() {
  byId("create-form").addEventListener("submit", (event) => { event.preventDefault(); make(); });
  byId("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); byId("create-form").requestSubmit(); }
  });
  byId("create-form").elements.generator.addEventListener("change", (event) => {
    // One is painted in a minute; of those that are drawn, many come at once.
    byId("create-form").elements.count.value = event.target.value === PAINTING ? 1 : 9;
    fit();
  });
  changes.prepare(heard);
  listen("job", heard);
  // What happened while the stream was away is not told again.
  listen("open", () => { if (!byId("create-page").hidden) reload(); });
  again = whenNear(byId("history-more"), () => { if (!byId("create-page").hidden) more(); });
}

export async function show() {
  try {
    const status = await get("/status");
    generators = Object.fromEntries(status.generators.map((each) => [each.name, each]));
    changes.allow(generators.unclip.missing);
    fit();
  } catch (error) {
    toast(error.message);
  }
  await reload();
}

export function relabel() {
  for (const { job } of [...open_jobs.values()]) update(job);
  fit();
  if (!byId("create-page").hidden) reload();
}

/** The form, as the generator that is chosen has it. */
function fit() {
  const form = byId("create-form");
  const name = form.elements.generator.value;
  const { missing = null, styles = [] } = generators[name] ?? {};
  for (const each of form.querySelectorAll("[data-of]")) each.hidden = !each.dataset.of.split(" ").includes(name);
  const style = form.elements.style;
  const chosen = style.value;
  style.replaceChildren(el("option", { value: "" }, t("filters.any")), ...styles.map((each) => el("option", {}, each)));
  style.value = styles.includes(chosen) ? chosen : "";
  style.parentElement.hidden ||= !styles.length;
  byId("create-missing").textContent = missing ?? "";
  byId("create-missing").hidden = !missing;
  form.querySelector("[type=submit]").disabled = Boolean(missing);
}

async function make() {
  const form = byId("create-form").elements;
  const seed = form.seed.value.trim();
  const request = { prompt: form.prompt.value.trim(), generator: form.generator.value, quality: form.quality.value, count: Number(form.count.value), video: form.video.checked, seed: seed || "0" };
  const chosen = request.generator === PAINTING ? ["drawer", "size"] : ["style"];
  for (const name of chosen) if (form[name].value) request[name] = form[name].value;
  byId("create-error").textContent = "";
  try {
    heard(await post("/generate", request));
  } catch (error) {
    byId("create-error").textContent = error.message;
  }
}

// --- under way

function heard(job) {
  if (job.state === "forgotten") {
    byId("history").querySelector(`[data-id="${job.id}"]`)?.remove();
  } else if (job.state === "queued" || job.state === "running") {
    const known = open_jobs.get(job.id)?.job;
    if (!over.has(job.id) && !(known?.state === "running" && (job.state === "queued" || job.step < known.step))) update(job);
  } else {
    over.add(job.id);
    close(job.id);
    if (job.state !== "cancelled" && !byId("history").querySelector(`[data-id="${job.id}"]`)) byId("history").prepend(made(job));
    byId("history-title").hidden = !byId("history").children.length;
  }
}

function close(id) {
  open_jobs.get(id)?.card.remove();
  open_jobs.delete(id);
}

function update(job) {
  let shown = open_jobs.get(job.id);
  if (!shown) {
    shown = card(job);
    open_jobs.set(job.id, shown);
  }
  shown.job = job;
  const waiting = job.state === "queued";
  shown.card.classList.toggle("waiting", waiting);
  // The one under way stands first, those that wait follow in their order.
  const later = [...open_jobs.values()].filter((each) => each.job.position > job.position).sort((a, b) => a.job.position - b.job.position)[0];
  const parent = byId("under-way");
  if (shown.card.parentElement !== parent || shown.card.nextElementSibling !== (later?.card ?? null)) parent.insertBefore(shown.card, later?.card.parentElement === parent ? later.card : null);
  shown.text.textContent = waiting ? t("job.waiting", { position: job.position }) : job.total ? t("job.step", { step: job.step, total: job.total }) : t("job.starting");
  shown.bar.hidden = waiting;
  if (job.total) { shown.bar.max = job.total; shown.bar.value = job.step; }
  shown.cancel.textContent = t("job.cancel");
  if (job.preview && job.preview !== shown.preview) {
    shown.preview = job.preview;
    const image = new Image();
    image.onload = () => { if (shown.preview === job.preview) { shown.image.src = image.src; shown.image.hidden = false; } };
    image.src = job.preview;
  }
}

function card(job) {
  const image = el("img", { alt: t("job.preview"), hidden: true });
  const text = el("p", { class: "note" });
  const bar = el("progress", { "aria-label": t("job.progress") });
  const cancel = el("button", { class: "button", type: "button", onclick: () => act(() => post(`/jobs/${job.id}/cancel`)) }, t("job.cancel"));
  const box = el("article", { class: "job", "data-id": job.id }, el("div", { class: "canvas", "--ratio": ratioOf(job.settings) }, image),
    el("div", {}, el("h2", {}, job.settings.prompt), text, bar, el("p", {}, cancel)));
  return { job, card: box, image, text, bar, cancel, preview: null };
}

function ratioOf({ size }) {
  const [width, height] = (size ?? "").split("x").map(Number);
  return (RATIOS[size] ?? (width && height ? width / height : 1)).toFixed(4);
}

async function act(action) {
  try {
    const job = await action();
    if (job) heard(job);
  } catch (error) {
    toast(error.message);
  }
}

// --- made before

/** What is shown stays until the new list is there: nothing blinks. */
async function reload() {
  if (loading) return;
  next = 0;
  const history = byId("history"), shown = [...history.children], before = [...open_jobs.keys()];
  const jobs = await more(), there = new Set(jobs.map((job) => job.id));
  for (const id of before) if (!there.has(id)) close(id);
  for (const card of shown) if (!there.has(card.dataset.id)) card.remove();
  for (const job of jobs) {
    const card = history.querySelector(`[data-id="${job.id}"]`);
    if (card) history.append(card); // in the order of the list
  }
  byId("history-title").hidden = !history.children.length;
}

/** The next part of all jobs, the newest first; -> those. */
async function more() {
  if (next === null || loading) return [];
  loading = true;
  try {
    const page = await get(`/jobs?offset=${next}&limit=${PAGE}`);
    next = page.next;
    for (const job of page.jobs) {
      if (job.state === "queued" || job.state === "running") {
        update(job);
        continue;
      }
      close(job.id);
      if (!byId("history").querySelector(`[data-id="${job.id}"]`)) byId("history").append(made(job));
    }
    byId("history-title").hidden = !byId("history").children.length;
    if (next !== null) requestAnimationFrame(() => again());
    return page.jobs;
  } catch (error) {
    next = null;
    toast(error.message);
    return [];
  } finally {
    loading = false;
  }
}

function made(job) {
  const { prompt } = job.settings;
  const pictures = job.pictures.map((picture, place) => ({
    ...picture, name: `${prompt}${place ? ` ${place + 1}` : ""}`, full: picture.url, video: undefined, prompt, of: { job: job.id, number: place + 1 },
    facts: { prompt, kind: t(`kind.${job.kind}`), seed: picture.seed, quality: job.settings.quality && t(`quality.${job.settings.quality}`), size: `${picture.width} × ${picture.height}`,
      score: picture.score?.toFixed(3), seconds: picture.seconds, settings: t("made.inside") },
  }));
  const first = pictures[0];
  const columns = Math.ceil(Math.sqrt(pictures.length));
  const when = job.finished ? new Date(job.finished * 1000).toLocaleString(locale(), { dateStyle: "medium", timeStyle: "short" }) : "";
  const tools = changes.tools();
  const button = (label, act, more = {}) => el("button", { class: "button small", type: "button", onclick: act, ...more }, t(label));
  const videos = job.pictures.filter((picture) => picture.video);
  return el("article", { class: "made", "data-id": job.id },
    first ? el("div", { class: "many", "--columns": columns, "--ratio": (first.width / first.height).toFixed(4) }, ...pictures.map((picture, place) =>
      el("button", { type: "button", "aria-label": picture.name, onclick: () => open(pictures, place, tools) },
        el("img", { src: picture.full, alt: "", loading: "lazy", width: picture.width, height: picture.height })))) : null,
    el("div", { class: "made-text" }, el("h3", {}, prompt), el("p", { class: job.error ? "error" : "note" }, job.error ?? when),
      el("div", { class: "row" },
        changes.isChange(job) ? null : button("made.again", () => refill(job, false)),
        button("made.other", () => (changes.isChange(job) ? changes.another(job) : refill(job, true))),
        ...(first ? tools : []).map(({ label, act, off }) => button(label, () => act(first), { disabled: Boolean(off), title: off })),
        first ? el("a", { class: "button small", href: first.full, download: `${fileName(prompt)}.png` }, t("made.download")) : null,
        videos.length ? button("made.video", () => open(videos.map((picture) => ({ ...picture, name: prompt, full: picture.video, facts: {} })), 0, [])) : null,
        button("made.delete", () => forget(job), { class: "button small quiet" }))));
}

const fileName = (prompt) => prompt.replace(/[^\p{L}\p{M}\p{N}]+/gu, "-").slice(0, 48) || "picture";

/** The same settings into the form; with another seed a sibling is made at once. */
function refill({ kind, settings }, other) {
  const form = byId("create-form").elements;
  form.prompt.value = settings.prompt;
  form.generator.value = kind;
  fit();
  form.style.value = settings.style ?? "";
  form.quality.value = settings.quality;
  form.drawer.value = settings.drawer ?? "";
  form.size.value = settings.size in RATIOS ? settings.size : "";
  form.count.value = [1, 2, 4, 9].includes(settings.count) ? settings.count : 1;
  form.video.checked = settings.video;
  form.seed.value = other ? String(Math.floor(Math.random() * 1e6)) : settings.seed;
  scrollTo({ top: 0, behavior: "smooth" });
  if (other) make(); else form.prompt.focus();
}

async function forget(job) {
  if (!confirm(t("made.sure", { prompt: job.settings.prompt }))) return;
  await act(() => remove(`/jobs/${job.id}`));
}
