// Server-sent events over fetch: unlike EventSource, it resumes after any kind of end, behind the last event.

const SILENCE_MS = 75_000;
const PAUSE_MIN_MS = 500;
const PAUSE_MAX_MS = 15_000;

const sleep = (ms, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });

/** Parses a stream's text, and calls `onEvent(data, id)` for each event. */
export class EventParser {
  constructor(onEvent, onRetry = () => {}) {
    this.onEvent = onEvent;
    this.onRetry = onRetry;
    this.rest = "";
    this.data = [];
    this.id = "";
  }

  push(text) {
    this.rest += text;
    // A CR at the very end may be half of a CRLF: it is parsed with the next text.
    const trailingCr = this.rest.endsWith("\r") ? "\r" : "";
    const complete = trailingCr ? this.rest.slice(0, -1) : this.rest;
    const lines = complete.split(/\r\n|\n|\r/);
    this.rest = lines.pop() + trailingCr;
    for (const line of lines) this.line(line);
  }

  line(line) {
    if (line === "") {
      if (this.data.length) this.onEvent(this.data.join("\n"), this.id);
      this.data = [];
      return;
    }

    const colon = line.indexOf(":");
    if (colon === 0) return;

    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this.data.push(value);
    else if (name === "id" && !value.includes("\0")) this.id = value;
    else if (name === "retry" && /^\d+$/.test(value)) this.onRetry(Number(value));
  }
}

/**
 * Follow the event stream at `url` until `onEvent(event, id)` returns true or `signal` is aborted. An interrupted stream
 * is resumed after the last event; `onConnection(isUp)` is called when it breaks or is up again. Rejects when the server
 * refuses the request, and would refuse it again.
 */
export async function follow(url, { onEvent, onConnection, signal }) {
  let lastId = "";
  let pauseMs = PAUSE_MIN_MS;
  while (!signal.aborted) {
    const attempt = new AbortController();
    const stop = () => attempt.abort();
    signal.addEventListener("abort", stop, { once: true });
    let watchdog = setTimeout(stop, SILENCE_MS);

    try {
      const headers = { accept: "text/event-stream", ...(lastId && { "last-event-id": lastId }) };
      const reply = await fetch(url, { headers, cache: "no-store", signal: attempt.signal });
      const isRefused = reply.status >= 400 && reply.status < 500 && ![408, 429].includes(reply.status);
      if (isRefused) throw new RequestRefused(reply.status);
      if (!reply.ok || !reply.body) throw new Error(`status ${reply.status}`);
      onConnection(true);

      let hasEnded = false;
      const parser = new EventParser(
        (data, id) => {
          lastId = id || lastId;
          pauseMs = PAUSE_MIN_MS;
          if (!hasEnded) hasEnded = onEvent(JSON.parse(data), lastId) === true;
        },
        (ms) => { pauseMs = Math.min(ms, PAUSE_MAX_MS); },
      );

      const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        clearTimeout(watchdog);
        watchdog = setTimeout(stop, SILENCE_MS);
        parser.push(value);
        if (hasEnded) {
          stop();
          return;
        }
      }
    } catch (error) {
      if (error instanceof RequestRefused) throw error;
    } finally {
      clearTimeout(watchdog);
      signal.removeEventListener("abort", stop);
    }

    if (signal.aborted) return;
    onConnection(false);
    await sleep(pauseMs * (0.75 + Math.random() / 2), signal);
    pauseMs = Math.min(pauseMs * 2, PAUSE_MAX_MS);
  }
}

export class RequestRefused extends Error {}
