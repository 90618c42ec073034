// A page's calls to graycat: chats that stream, images, and what to do when something goes wrong. No library is needed.
// The page's origin must be in GRAYCAT_CORS_ORIGINS; its token is a player's, never one of the server's own.

const sleep = (ms, signal) =>
  new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });

/** What was answered instead. Switch on `type` (docs/errors.md); `status` is 0 where the line was lost. */
export class GraycatError extends Error {
  constructor(status, { type = "server_error", message = `HTTP ${status}` } = {}, retryAfterS = null) {
    super(message);
    Object.assign(this, { status, type, retryAfterS });
  }

  static lost(message) {
    return new GraycatError(0, { type: "connection_lost", message });
  }

  static async read(response) {
    const { error } = await response.json().catch(() => ({}));
    const retryAfter = Number.parseFloat(response.headers.get("Retry-After"));
    return new GraycatError(response.status, error, Number.isNaN(retryAfter) ? null : retryAfter);
  }
}

/** Return a function that returns a player's token from the game's own server, renewed before it ends. */
export function playerTokens(address, session) {
  let minting = null;
  let until = 0;
  const mint = async () => {
    const asked = { method: "POST", headers: { Authorization: `Bearer ${session}` } };
    const response = await fetch(address, asked).catch((error) => Promise.reject(GraycatError.lost(error.message)));
    if (!response.ok) throw await GraycatError.read(response);
    const { token, expires_in_s: lives } = await response.json();
    // By the page's own watch: a player's clock may be wrong. Half a minute early.
    until = performance.now() + (lives - 30) * 1000;
    return token;
  };
  return async (refused) => {
    if (refused || minting === null || performance.now() > until) {
      until = Infinity; // Calls at the same time share one token.
      minting = mint();
      minting.catch(() => (minting = null));
    }
    return minting;
  };
}

export class Graycat {
  /** @param token returns the token to send; called with true after a 401. Times are in ms. */
  constructor(server, token, { patience = 30_000, silence = 30_000 } = {}) {
    Object.assign(this, { server: server.replace(/\/+$/, ""), token, patience, silence });
  }

  /** Return the answer to a chat; its pieces go to `onText` as they come. Aborting `signal` stops the model. */
  async chat(request, onText = () => {}, signal = undefined) {
    let whole = "";
    for await (const { data } of this.#events("/v1/chat/completions", { ...request, stream: true }, {}, signal)) {
      if (data === "[DONE]") return whole;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new GraycatError(chunk.error.code, chunk.error);
      const text = chunk.choices?.[0]?.delta?.content;
      if (!text) continue;
      whole += text;
      onText(text);
    }
    throw GraycatError.lost("the answer broke off");
  }

  /** Return an image (a Blob) of txt2img's fields. As a task: it outlives a lost line. `onProgress` gets 0 to 1. */
  async image(input, onProgress = () => {}, signal = undefined) {
    const key = { "Idempotency-Key": Array.from(crypto.getRandomValues(new Uint32Array(4))).join("-") };
    const task = await (await this.#send("/tasks", { kind: "sd.txt2img", input }, key, signal)).json();
    const path = `/tasks/${task.id}`;
    try {
      await this.#follow(path, onProgress, signal);
      return await (await this.#send(`${path}/images/0`, null, {}, signal)).blob();
    } catch (error) {
      if (signal?.aborted) await this.#send(`${path}/cancel`, {}, {});
      throw error;
    }
  }

  async #follow(path, onProgress, signal) {
    let last = "";
    let heard = performance.now();
    while (performance.now() - heard < this.patience) {
      try {
        const headers = last ? { "Last-Event-ID": last } : {};
        for await (const { id, name, data } of this.#events(`${path}/events`, null, headers, signal)) {
          heard = performance.now();
          last = id || last;
          const told = JSON.parse(data);
          if (name === "progress") onProgress(told.progress);
          if (name === "result") return;
          if (name === "error") throw new GraycatError((told.error ?? told).code, told.error ?? told);
          if (name === "cancelled") throw new GraycatError(499, { type: "task_cancelled", message: "it was cancelled" });
        }
      } catch (error) {
        if (error.type !== "connection_lost") throw error;
      }
      await sleep(500, signal);
    }
    throw GraycatError.lost("the task's events do not come any more");
  }

  /** Send a request (a POST if there is a body); again, while that can help. */
  async #send(path, body, headers, signal) {
    const started = performance.now();
    for (let attempt = 0, refused = false; ; attempt += 1) {
      const { response, error } = await this.#try(path, body, headers, refused, signal);
      if (response) return response;
      if (error.status === 401 && !refused) {
        refused = true;
        continue;
      }
      let pause = [429, 502, 503].includes(error.status) ? error.retryAfterS : null;
      if (error.type === "connection_lost") pause = Math.min(0.5 * 2 ** attempt, 5);
      if (pause === null || performance.now() - started + pause * 1000 > this.patience) throw error;
      await sleep(pause * 1000, signal);
    }
  }

  async #try(path, body, headers, refused, signal) {
    const given = { ...headers };
    const options = { headers: given, signal };
    if (body !== null) {
      Object.assign(options, { method: "POST", body: JSON.stringify(body) });
      given["Content-Type"] = "application/json";
    }
    try {
      given.Authorization = `Bearer ${await this.token(refused)}`;
      const response = await fetch(this.server + path, options);
      return response.ok ? { response } : { error: await GraycatError.read(response) };
    } catch (error) {
      signal?.throwIfAborted();
      return { error: error instanceof GraycatError ? error : GraycatError.lost(error.message) };
    }
  }

  /** Yield the server-sent events of an answer. */
  async *#events(path, body, headers, signal) {
    const response = await this.#send(path, body, headers, signal);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    try {
      for (;;) {
        const { value, done } = await this.#read(reader, signal);
        if (done) return;
        const blocks = (text + value).split("\n\n");
        text = blocks.pop();
        for (const block of blocks) {
          const event = parsed(block);
          if (event.data) yield event;
        }
      }
    } finally {
      reader.cancel().catch(() => {}); // Closes the connection: graycat stops the work.
    }
  }

  async #read(reader, signal) {
    let timer;
    const silent = new Promise((_, reject) => {
      timer = setTimeout(() => reject(GraycatError.lost("nothing came")), this.silence);
    });
    try {
      return await Promise.race([reader.read(), silent]);
    } catch (error) {
      signal?.throwIfAborted();
      throw error instanceof GraycatError ? error : GraycatError.lost(error.message);
    } finally {
      clearTimeout(timer);
    }
  }
}

function parsed(block) {
  const fields = { id: "", event: "", data: "" };
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    const name = line.slice(0, colon);
    if (name in fields) fields[name] += (name === "data" && fields.data ? "\n" : "") + line.slice(colon + 1).trimStart();
  }
  return { id: fields.id, name: fields.event, data: fields.data };
}
