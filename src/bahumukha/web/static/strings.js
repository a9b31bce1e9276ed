// The words of the interface, in the language that was chosen. HTML holds English; a file of words replaces it.

const english = {};
let words = english;
let language = "en";

/** The text of a key, with {names} filled in; numbers as the language writes them. */
export function t(key, values = {}) {
  const text = words[key] ?? english[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    return typeof value === "number" ? value.toLocaleString(locale()) : value ?? "";
  });
}

/** How dates and numbers are written: as in the reader's own region, where that speaks the language. */
export const locale = () => navigator.languages.find((each) => each.split("-")[0] === language) ?? language;

/** The language kept from last time, else the browser's, else English. */
export function preferred(known) {
  const wanted = [localStorage.getItem("language"), ...navigator.languages.map((each) => each.split("-")[0])];
  return wanted.find((each) => known.includes(each)) ?? "en";
}

/** Take a language and write it all over the page. */
export async function choose(code, keep = false) {
  if (!Object.keys(english).length) Object.assign(english, await read("en"));
  words = code === "en" ? english : await read(code);
  language = code;
  if (keep) localStorage.setItem("language", code);
  document.documentElement.lang = code;
  write(document);
  document.dispatchEvent(new Event("languagechange"));
}

/** Fill in the elements that name their words. */
export function write(root) {
  for (const element of root.querySelectorAll("[data-text]")) element.textContent = t(element.dataset.text);
  for (const element of root.querySelectorAll("[data-placeholder]")) element.placeholder = t(element.dataset.placeholder);
  for (const element of root.querySelectorAll("[data-title]")) element.title = t(element.dataset.title);
  for (const element of root.querySelectorAll("[data-label]")) element.setAttribute("aria-label", t(element.dataset.label));
}

async function read(code) {
  const answer = await fetch(`/strings/${code}.json`);
  return answer.ok ? answer.json() : {};
}
