// The frame: which page is shown, in which language, and what is dropped onto it.

import { byId, el, toast } from "./dom.js";
import { choose, preferred, t } from "./strings.js";
import { get } from "./api.js";
import * as lightbox from "./lightbox.js";
import * as search from "./search.js";
import * as ask from "./ask.js";
import * as create from "./create.js";

const pages = { search, ask, create };
const paths = { "/": "search", "/ask": "ask", "/create": "create" };
let current = null;

function show(name) {
  if (name === current) return;
  current = name;
  for (const each of Object.keys(pages)) byId(`${each}-page`).hidden = each !== name;
  for (const link of document.querySelectorAll("nav [data-page]")) {
    if (link.dataset.page === name) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  pages[name].show();
  title();
}

const title = () => { document.title = `${t(`nav.${current}`)} · Bahumukha`; };

function links() {
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-page]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    if (location.pathname !== link.pathname) history.pushState(null, "", link.pathname);
    show(link.dataset.page);
    scrollTo({ top: 0 });
  });
  addEventListener("popstate", () => show(paths[location.pathname] ?? "search"));
}

function keys() {
  addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select, dialog");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    byId({ search: "query", ask: "label", create: "prompt" }[current]).focus();
  });
}

/** Pictures may be dropped anywhere on the pages that take one. */
function dropping() {
  const veil = byId("drop-veil");
  let depth = 0;
  const target = () => { const page = byId(`${current}-page`); return page.dataset.drop && !byId("lightbox").open ? page : null; };
  const holdsFile = (event) => [...event.dataTransfer.types].includes("Files");
  addEventListener("dragenter", (event) => {
    if (!holdsFile(event) || !target()) return;
    depth += 1;
    veil.firstElementChild.textContent = t(target().dataset.drop);
    veil.hidden = false;
  });
  addEventListener("dragleave", (event) => { if (holdsFile(event) && (depth -= 1) <= 0) { depth = 0; veil.hidden = true; } });
  addEventListener("dragover", (event) => { if (holdsFile(event)) event.preventDefault(); });
  addEventListener("drop", (event) => {
    if (!holdsFile(event)) return;
    event.preventDefault();
    depth = 0;
    veil.hidden = true;
    if (target()) pages[current].drop(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
    if (file && target()) pages[current].drop(file);
  });
}

async function languages() {
  const { languages: known } = await get("/status");
  const select = byId("language");
  select.replaceChildren(...Object.entries(known).map(([code, name]) => el("option", { value: code, lang: code }, name)));
  select.value = preferred(Object.keys(known));
  await choose(select.value);
  select.addEventListener("change", async () => {
    await choose(select.value, true);
    title();
    for (const page of Object.values(pages)) page.relabel();
  });
}

async function start() {
  lightbox.prepare();
  try {
    await languages();
  } catch (error) {
    toast(error.message);
  }
  for (const page of Object.values(pages)) page.prepare();
  links();
  keys();
  dropping();
  show(paths[location.pathname] ?? "search");
  document.documentElement.dataset.ready = "";
}

start();
