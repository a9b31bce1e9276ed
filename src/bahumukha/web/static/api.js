// The server's API, and the stream of what happens there.

const BASE = "/api/v1";

/** An answer's JSON; an error of the server becomes an Error with its line. */
async function ask(path, options = {}) {
  const answer = await fetch(BASE + path, options);
  if (answer.status === 401) location.assign("/sign-in");
  if (!answer.ok) throw new Error(await lineOf(answer));
  return answer.status === 204 ? null : answer.json();
}

async function lineOf(answer) {
  try {
    return (await answer.json()).error;
  } catch {
    return `${answer.status} ${answer.statusText}`;
  }
}

export const get = (path, signal) => ask(path, { signal });
export const remove = (path) => ask(path, { method: "DELETE" });
export const post = (path, body, signal) => ask(path, {
  method: "POST", signal, ...(body === undefined ? {} : { headers: { "content-type": "application/json" }, body: JSON.stringify(body) }),
});
export const send = (path, form, signal) => ask(path, { method: "POST", body: form, signal });

/** A picture that the server draws, as an address for an <img>; to be revoked when it is not needed any more. */
export async function drawn(path, form, signal) {
  const answer = await fetch(BASE + path, { method: "POST", body: form, signal });
  if (!answer.ok) throw new Error(await lineOf(answer));
  return URL.createObjectURL(await answer.blob());
}

const listeners = { job: new Set(), index: new Set(), open: new Set() };
let stream = null;

/** `heard` is called with each news of a topic: `job`, `index`, or `open` whenever the stream is there (again). */
export function listen(topic, heard) {
  listeners[topic].add(heard);
  if (stream) return;
  stream = new EventSource(`${BASE}/events`);
  stream.addEventListener("open", () => { for (const each of listeners.open) each(); });
  for (const name of ["job", "index"]) {
    stream.addEventListener(name, (event) => {
      const news = JSON.parse(event.data);
      for (const each of listeners[name]) each(news);
    });
  }
}

addEventListener("pagehide", () => stream?.close());
