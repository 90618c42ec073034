// The public API, called with the API token that was typed in. The token is in this variable and nowhere else.

let token = "";

/** Where the API begins: above the folder of these files, so a path before it is no matter. */
export const base = new URL("../../", import.meta.url);
/** Tells of an API token that is no longer accepted: an event "refused" with the sentence. */
export const session = new EventTarget();

export const signedIn = () => token !== "";

export function setToken(value) {
  token = value;
}

export class ApiError extends Error {
  constructor(status, type, message) {
    super(message);
    this.status = status;
    this.type = type;
  }
}

/** Send a request, and return its response. Raises ApiError for an error of the server or of the way to it. */
export async function call(method, path, { body, headers = {}, signal } = {}) {
  const sender = token;
  const options = { method, signal, headers: { ...headers, Authorization: `Bearer ${sender}` } };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(new URL(path, base), { ...options, credentials: "omit", cache: "no-store", redirect: "error" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "The server does not answer. Is it running, and are you connected?");
  }
  // An answer to somebody who has left is shown to nobody.
  if (sender !== token) throw new ApiError(0, "signed_out", "");
  if (!response.ok) throw await readError(response);
  return response;
}

async function readError(response) {
  let found = {};
  try {
    found = (await response.json()).error ?? {};
  } catch {
    // A proxy's page, say.
  }
  const message = typeof found.message === "string" ? found.message : `The server answers ${response.status}.`;
  const error = new ApiError(response.status, String(found.type ?? ""), message);
  if (response.status === 401) session.dispatchEvent(new CustomEvent("refused", { detail: message }));
  return error;
}

export async function json(method, path, options) {
  const sender = token;
  const body = await (await call(method, path, options)).json();
  if (sender !== token) throw new ApiError(0, "signed_out", "");
  return body;
}

/** Return an address of this page's own for an image that needs the API token. Whoever no longer shows it revokes it. */
export async function imageUrl(path) {
  return URL.createObjectURL(await (await call("GET", path)).blob());
}

/** Yield the server-sent events of a response as {id, event, data}. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = { id: "", event: "message", data: [] };
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines.map((text) => text.replace(/\r$/, ""))) {
      if (line) {
        const [, name, text] = /^([^:]*):? ?(.*)$/s.exec(line);
        if (name === "data") event.data.push(text);
        else if (name === "id" || name === "event") event[name] = text;
      } else {
        if (event.data.length) yield { ...event, data: event.data.join("\n") };
        event = { id: "", event: "message", data: [] };
      }
    }
  }
}

const LAST = ["result", "error", "cancelled"];

/** Follow a task to its end, over broken connections as well; ``tell`` gets (event, data). Returns the last of them. */
export async function follow(id, tell, signal) {
  const path = `tasks/${encodeURIComponent(id)}`;
  let after = "";
  for (let failures = 0; ; ) {
    try {
      const response = await call("GET", `${path}/events`, { signal, headers: after ? { "Last-Event-ID": after } : {} });
      if (response.status === 204) return { event: "over", data: await json("GET", path, { signal }) };
      for await (const { id: position, event, data } of events(response)) {
        failures = 0;
        after = position || after;
        const parsed = JSON.parse(data);
        if (LAST.includes(event)) return { event, data: parsed };
        tell(event, parsed);
      }
    } catch (error) {
      if (error.name === "AbortError" || (error.status >= 400 && error.status < 500)) throw error;
      if (++failures > 5) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}
