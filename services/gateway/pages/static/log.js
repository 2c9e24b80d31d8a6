// A build's log. Its lines come from strangers: they are text and nothing else, and however many they are the page
// stays quick.

const LINES_MAX = 4000;
const CHUNK_LINES = 200;
const LINE_MAX = 4000;
const OPEN_LINE_MAX = 65_536;

// Terminal sequences: CSI, then OSC and its kin up to their end, then any other escape. Each takes all that it looks
// at, ended or not, as a terminal does: however a line repeats their beginnings, none of it is read twice.
const SEQUENCES = /(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?|\x1b[ -/]*[0-~]?/g;
// Control characters but for the tab, and marks that would reorder the text around them.
const UNSEEN = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** One line as a terminal would leave it: what a carriage return goes back over is gone. */
export function cleanLine(raw) {
  const text = raw.replace(SEQUENCES, "");
  const pieces = text.split("\r").filter((piece) => piece !== "");
  const line = (pieces.at(-1) ?? "").replace(UNSEEN, "");
  return line.length > LINE_MAX ? `${line.slice(0, LINE_MAX)} … (${line.length - LINE_MAX} more characters)` : line;
}

/** Cuts messages into lines; what has no end yet is kept, and can be asked for. */
export class Lines {
  constructor() {
    this.open = "";
  }

  push(text) {
    const raw = (this.open + text).split("\n");
    this.open = raw.pop();
    if (this.open.length > OPEN_LINE_MAX) this.open = this.open.slice(-OPEN_LINE_MAX);
    return raw.map(cleanLine);
  }

  get tail() {
    return cleanLine(this.open);
  }
}

/** Shows lines in `box`, the latest few thousand of them, painted at most once a frame; `note` counts the others. */
export class LogView {
  constructor(box, note) {
    this.box = box;
    this.note = note;
    this.lines = new Lines();
    this.waiting = [];
    this.shown = 0;
    this.dropped = 0;
    this.tail = document.createTextNode("");
    this.scheduled = false;
    // The view stays at the end until someone scrolls away from it, and again when they come back.
    this.followsEnd = true;
    box.addEventListener("scroll", () => {
      this.followsEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    }, { passive: true });
  }

  get isEmpty() {
    return !this.shown && !this.dropped && !this.waiting.length && !this.lines.open;
  }

  write(text) {
    this.waiting.push(...this.lines.push(text));
    const tooMany = this.waiting.length - LINES_MAX;
    if (tooMany > 0) {
      this.waiting.splice(0, tooMany);
      this.dropped += tooMany;
    }
    this.paintSoon();
  }

  paintSoon() {
    if (this.scheduled) return;
    this.scheduled = true;
    const paint = () => {
      if (!this.scheduled) return;
      this.scheduled = false;
      this.paint();
    };
    requestAnimationFrame(paint);
    setTimeout(paint, 500); // a tab in the background gets no frames
  }

  paint() {
    const { box } = this;
    this.tail.remove();
    const waiting = this.waiting.splice(0);
    for (let from = 0; from < waiting.length; ) {
      const last = box.lastElementChild;
      const room = last ? CHUNK_LINES - Number(last.dataset.lines) : 0;
      const chunk = room > 0 ? last : this.addChunk();
      const part = waiting.slice(from, from + (room > 0 ? room : CHUNK_LINES));
      chunk.append(`${part.join("\n")}\n`);
      chunk.dataset.lines = Number(chunk.dataset.lines) + part.length;
      from += part.length;
    }
    this.shown += waiting.length;
    while (this.shown > LINES_MAX && box.firstElementChild !== box.lastElementChild) {
      const first = box.firstElementChild;
      this.shown -= Number(first.dataset.lines);
      this.dropped += Number(first.dataset.lines);
      first.remove();
    }
    this.tail.data = this.lines.tail;
    if (this.tail.data) box.append(this.tail);
    if (this.dropped) {
      this.note.hidden = false;
      this.note.textContent = `${this.dropped.toLocaleString("en")} earlier lines are left out here.`;
    }
    if (this.followsEnd) box.scrollTop = box.scrollHeight;
  }

  addChunk() {
    const chunk = document.createElement("div");
    chunk.className = "chunk";
    chunk.dataset.lines = "0";
    this.box.append(chunk);
    return chunk;
  }
}
