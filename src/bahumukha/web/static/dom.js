// Small things that every page needs: elements, messages, and things that wait a moment.

/** el("button", {class: "chip", onclick: f, "aria-label": "x"}, child, "text") */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) element.style.setProperty(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

let toastTimer = 0;
/** A line at the foot of the page, for a while. */
export function toast(text) {
  const box = byId("toast");
  box.textContent = text;
  box.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { box.hidden = true; }, 6000);
}

/** The function, called only when it has not been asked for again for a while. */
export function debounced(action, milliseconds) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...values), milliseconds);
  };
}

/** Calls `near` whenever the element comes close to the visible part of the page. */
export function whenNear(element, near) {
  const observer = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) near();
  }, { rootMargin: "1400px" });
  observer.observe(element);
  return () => { observer.unobserve(element); observer.observe(element); };
}
