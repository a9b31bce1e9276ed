// The search page: pictures as one types, more and less of something, filters, copies.

import { byId, debounced, el, toast } from "./dom.js";
import { t } from "./strings.js";
import { get, listen, post, send } from "./api.js";
import { Gallery, tile, walkable } from "./gallery.js";

const PAGE = 60;
/** What is looked for besides the words in the field: {text | picture | upload, sign, name, image}. */
let terms = [];
let gallery = null;
let facets = null;
let abort = null;
let wasIndexing = false;

const tools = [
  { text: "≈", label: "tool.similar", act: (picture) => likeThis(picture) },
  { text: "+", label: "tool.more", act: (picture) => addTerm({ picture: picture.id, sign: 1, name: picture.name, image: picture.thumbnail }) },
  { text: "−", label: "tool.less", act: (picture) => addTerm({ picture: picture.id, sign: -1, name: picture.name, image: picture.thumbnail }) },
];

export function prepare() {
  gallery = new Gallery(byId("gallery"), byId("more"), tools);
  walkable(byId("groups"));
  byId("query").value = new URLSearchParams(location.search).get("q") ?? "";
  byId("query").addEventListener("input", debounced(refresh, 140));
  byId("search-form").addEventListener("submit", (event) => { event.preventDefault(); refresh(); });
  byId("query-file").addEventListener("change", (event) => { drop(event.target.files[0]); event.target.value = ""; });
  byId("term-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = byId("term").value.trim();
    if (text) addTerm({ text, sign: event.submitter?.value === "minus" ? -1 : 1, name: text });
    byId("term").value = "";
  });
  byId("filters-button").addEventListener("click", toggleFilters);
  byId("filters").addEventListener("input", debounced(refresh, 140));
  byId("filters").addEventListener("reset", () => setTimeout(refresh));
  byId("duplicates-button").addEventListener("click", toggleDuplicates);
  byId("folders-button").addEventListener("click", toggleFolders);
  byId("duplicates-options").addEventListener("input", refresh);
  listen("index", indexing);
}

export function show() {
  refresh();
  if (!byId("folders").hidden) folders();
}

/** The page's own words, in another language now. */
export function relabel() {
  drawChips();
  if (facets) fillFilters();
  if (!byId("search-page").hidden) show();
}

// --- asking

async function refresh() {
  const copies = byId("duplicates-button").getAttribute("aria-pressed") === "true";
  byId("groups").hidden = !copies;
  byId("gallery").hidden = copies;
  byId("duplicates-options").hidden = !copies;
  const words = byId("query").value.trim();
  const address = new URL(location.href);
  if (words) address.searchParams.set("q", words); else address.searchParams.delete("q");
  if (location.pathname === "/") history.replaceState(null, "", address);
  try {
    await (copies ? duplicates() : pictures(words));
  } catch (error) {
    if (error.name !== "AbortError") byId("found").textContent = error.message;
  }
}

async function pictures(words) {
  abort?.abort();
  abort = new AbortController();
  const { signal } = abort;
  const where = filter();
  const plus = terms.filter((term) => term.sign > 0).map(asTerm);
  const minus = terms.filter((term) => term.sign < 0).map(asTerm);
  const searching = words || plus.length;
  const ask = searching
    ? (offset) => post("/search", { ...(words ? { text: words } : {}), plus, minus, where, cutoff: byId("filters").elements.standout.checked ? "auto" : null, offset, limit: PAGE }, signal)
    : (offset) => get(`/pictures?${new URLSearchParams({ ...(where ? { where } : {}), offset, limit: PAGE })}`, signal);
  const page = await gallery.show(ask);
  if (page === null) return;
  byId("found").textContent = !page.total && !searching && !where ? "" : t(searching ? "found.search" : "found.all", { count: page.total, time: Math.max(1, Math.round(page.seconds * 1000)) });
  if (!page.total) byId("gallery").append(el("p", { class: "empty" }, t(searching || where ? "empty.search" : "empty.all")));
  scrollTo({ top: 0 });
}

const asTerm = ({ text, picture, upload }) => (text ? { text } : picture ? { picture } : { upload });

function filter() {
  const { from, to, camera, type, folder } = byId("filters").elements;
  const quoted = (value) => `"${value.replaceAll('"', "")}"`;
  const parts = [];
  if (from.value) parts.push(`date >= ${from.value}`);
  if (to.value) parts.push(`date <= ${to.value}`);
  if (camera.value) parts.push(`camera = ${quoted(camera.value)}`);
  if (type.value) parts.push(`type = ${quoted(type.value)}`);
  if (folder.value.trim().replaceAll('"', "")) parts.push(`folder ~ ${quoted(folder.value.trim())}`);
  return parts.length ? parts.join(" and ") : null;
}

// --- more and less

function addTerm(term) {
  terms = [...terms.filter((each) => each.name !== term.name), term];
  drawChips();
  copiesOff();
  refresh();
}

function likeThis(picture) {
  byId("query").value = "";
  terms = [];
  addTerm({ picture: picture.id, sign: 1, name: picture.name, image: picture.thumbnail });
}

/** A picture from elsewhere: the search is for pictures like it. */
export async function drop(file) {
  if (!file) return;
  const form = new FormData();
  form.append("file", file);
  try {
    const { upload } = await send("/uploads", form);
    byId("query").value = "";
    for (const term of terms) if (term.upload) URL.revokeObjectURL(term.image);
    terms = [];
    addTerm({ upload, sign: 1, name: file.name, image: URL.createObjectURL(file) });
  } catch (error) {
    toast(error.message);
  }
}

function drawChips() {
  byId("chips").replaceChildren(...terms.map((term) => el("span", { class: `chip ${term.sign < 0 ? "minus" : "plus"}`, role: "listitem" },
    el("button", { type: "button", title: t("chip.turn"), "aria-label": `${t("chip.turn")}: ${term.name}`, onclick: () => { term.sign *= -1; drawChips(); refresh(); } }, term.sign < 0 ? "−" : "+"),
    term.image ? el("img", { src: term.image, alt: "", width: 30, height: 30 }) : null,
    el("span", { class: "chip-text" }, term.name),
    el("button", { type: "button", title: t("chip.remove"), "aria-label": `${t("chip.remove")}: ${term.name}`, onclick: () => { terms = terms.filter((each) => each !== term); drawChips(); refresh(); } }, "✕"))));
}

// --- filters

async function toggleFilters() {
  const panel = byId("filters");
  panel.hidden = !panel.hidden;
  byId("filters-button").setAttribute("aria-expanded", String(!panel.hidden));
  if (panel.hidden || facets) return;
  try {
    facets = await get("/facets");
    fillFilters();
  } catch (error) {
    toast(error.message);
  }
}

function fillFilters() {
  const form = byId("filters").elements;
  for (const [name, values] of [["from", facets.years], ["to", facets.years], ["camera", facets.cameras], ["type", facets.types]]) {
    const chosen = form[name].value;
    const plain = name === "from" || name === "to";
    form[name].replaceChildren(el("option", { value: "" }, t("filters.any")),
      ...values.map(({ value, pictures }) => el("option", { value }, plain ? value : `${value} (${pictures})`)));
    form[name].value = chosen;
  }
}

// --- copies

function copiesOff() {
  byId("duplicates-button").setAttribute("aria-pressed", "false");
}

function toggleDuplicates() {
  const on = byId("duplicates-button").getAttribute("aria-pressed") !== "true";
  byId("duplicates-button").setAttribute("aria-pressed", String(on));
  refresh();
}

async function duplicates() {
  abort?.abort();
  abort = new AbortController();
  gallery.clear();
  const groups = byId("groups");
  groups.replaceChildren();
  byId("found").textContent = t("duplicates.looking");
  const near = byId("duplicates-options").elements.near.checked;
  const page = await get(`/duplicates?near=${near}&limit=200`, abort.signal);
  byId("found").textContent = t("duplicates.found", { count: page.total });
  groups.replaceChildren(...page.groups.map(({ kind, similarity, pictures }) => el("section", { class: "group" },
    el("h3", {}, t(`duplicates.${kind}`, { count: pictures.length, similarity: similarity.toFixed(2) })),
    el("div", { class: "gallery", role: "list" }, ...pictures.map((picture) => tile(picture, pictures, tools))))));
}

// --- folders and indexing

function indexing(state) {
  byId("indexing").hidden = !state.running && !state.error;
  byId("indexing-text").textContent = state.error ?? (state.total === null ? t("indexing.listing", { count: state.done }) : t("indexing.done", { done: state.done, total: state.total }));
  const bar = byId("indexing-bar");
  bar.hidden = Boolean(state.error);
  if (state.total) { bar.max = state.total; bar.value = state.done; } else bar.removeAttribute("value");
  if (wasIndexing && !state.running) {
    facets = null;
    if (state.failed.length) toast(t("indexing.failed", { count: state.failed.length, name: state.failed[0].path }));
    if (!byId("search-page").hidden && scrollY < 200) show();
  }
  wasIndexing = state.running;
}

async function toggleFolders() {
  const panel = byId("folders");
  if (panel.hidden) await folders();
  panel.hidden = !panel.hidden;
  byId("folders-button").setAttribute("aria-expanded", String(!panel.hidden));
}

async function folders() {
  try {
    const { folders: found } = await get("/folders");
    byId("folder-list").replaceChildren(...(found.length ? [] : [el("li", {}, t("folders.none"))]), ...found.map((folder) => el("li", {}, el("code", {}, folder.path), t("folders.pictures", { count: folder.pictures }),
      el("button", { class: "button small quiet", type: "button", onclick: () => again(folder) }, t("folders.index")))));
  } catch (error) {
    toast(error.message);
  }
}

async function again(folder) {
  try {
    await post(`/folders/${folder.number}/index`);
  } catch (error) {
    toast(error.message);
  }
}
