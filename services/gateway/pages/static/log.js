// A build's log. Its lines come from strangers, so they are shown as text only; the page stays quick with any number of
// them.

const LINES_MAX = 4000;
const CHUNK_LINES = 200;
const LINE_MAX = 4000;
const OPEN_LINE_MAX = 65_536;

// Terminal sequences: CSI, then OSC and similar ones up to their end, then any other escape. As in a terminal, each match
// consumes all that it has read, also if its end is missing, so that a line of many beginnings is read only once.
const SEQUENCES = /(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?|\x1b[ -/]*[0-~]?/g;
// Control characters except the tab, and marks that would reorder the text around them.
const INVISIBLE = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** Returns a line as a terminal would leave it: text after a carriage return replaces the text before it. */
export function cleanLine(raw) {
  const text = raw.replace(SEQUENCES, "");
  const pieces = text.split("\r").filter((piece) => piece !== "");
  const line = (pieces.at(-1) ?? "").replace(INVISIBLE, "");
  return line.length > LINE_MAX ? `${line.slice(0, LINE_MAX)} … (${line.length - LINE_MAX} more characters)` : line;
}

/** Cuts messages into lines; `open` is the last line while it has no end, and `tail` the same, cleaned. */
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

/** Returns whether a position in a stream, `<milliseconds>-<sequence>.<events>`, comes after another one. */
export function comesAfter(position, other) {
  const [left, right] = [position, other].map((text) => text.split(/[-.]/).map(BigInt));
  const index = left.findIndex((number, at) => number !== (right[at] ?? 0n));
  return index >= 0 && left[index] > (right[index] ?? 0n);
}

/** Shows the latest few thousand lines in `box`, painted at most once a frame; `note` has the number of the others. */
export class LogView {
  constructor(box, note) {
    this.box = box;
    this.note = note;
    this.lines = new Lines();
    this.unpainted = [];
    this.shownCount = 0;
    this.droppedCount = 0;
    this.writtenCount = 0;
    this.marks = []; // positions of messages in the build's log, with the number of lines before each
    this.tail = document.createTextNode("");
    this.isScheduled = false;
    // The view stays at the end until someone scrolls away from it, and again when they come back.
    this.followsEnd = true;
    box.addEventListener("scroll", () => {
      this.followsEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    }, { passive: true });
  }

  get isEmpty() {
    return !this.shownCount && !this.droppedCount && !this.unpainted.length && !this.lines.open;
  }

  /** Adds a message; `position` is its place in the build's log, if it has one. */
  write(text, position = "-") {
    if (position !== "-") this.marks.push({ position, lines: this.writtenCount });
    if (this.marks.length > 2 * LINES_MAX) this.marks = this.marks.slice(-LINES_MAX);
    const lines = this.lines.push(text);
    this.writtenCount += lines.length;
    this.unpainted.push(...lines);
    const surplus = this.unpainted.length - LINES_MAX;
    if (surplus > 0) {
      this.unpainted.splice(0, surplus);
      this.droppedCount += surplus;
    }
    this.paintSoon();
  }

  paintSoon() {
    if (this.isScheduled) return;
    this.isScheduled = true;

    const paint = () => {
      if (!this.isScheduled) return;
      this.isScheduled = false;
      this.paint();
    };
    requestAnimationFrame(paint);
    setTimeout(paint, 500); // a tab in the background gets no frames
  }

  paint() {
    const { box } = this;
    this.tail.remove();

    const unpainted = this.unpainted.splice(0);
    for (let from = 0; from < unpainted.length; ) {
      const last = box.lastElementChild;
      const room = last ? CHUNK_LINES - Number(last.dataset.lines) : 0;
      const chunk = room > 0 ? last : this.addChunk();
      const part = unpainted.slice(from, from + (room > 0 ? room : CHUNK_LINES));
      chunk.append(`${part.join("\n")}\n`);
      chunk.dataset.lines = Number(chunk.dataset.lines) + part.length;
      from += part.length;
    }
    this.shownCount += unpainted.length;

    while (this.shownCount > LINES_MAX && box.firstElementChild !== box.lastElementChild) {
      const first = box.firstElementChild;
      this.shownCount -= Number(first.dataset.lines);
      this.droppedCount += Number(first.dataset.lines);
      first.remove();
    }

    this.tail.data = this.lines.tail;
    if (this.tail.data) box.append(this.tail);

    if (this.droppedCount) {
      this.note.hidden = false;
      this.note.textContent = `${this.droppedCount.toLocaleString("en")} earlier lines are left out here.`;
    }
    if (this.followsEnd) box.scrollTop = box.scrollHeight;
  }

  /** Selects the line that comes after a position in the build's log, and scrolls to it. Returns whether it is here. */
  showLineAfter(after) {
    this.paint();
    const mark = this.marks.find(({ position }) => comesAfter(position, after || "0-0.0"));
    let fromEnd = mark ? this.writtenCount - mark.lines : 0;
    if (fromEnd < 1 || fromEnd > LINES_MAX) return false;

    let chunk = this.box.lastElementChild;
    for (; chunk && fromEnd > Number(chunk.dataset.lines); chunk = chunk.previousElementSibling) {
      fromEnd -= Number(chunk.dataset.lines);
    }
    if (!chunk) return false;

    chunk.normalize();
    const text = chunk.firstChild;
    const lines = text.data.split("\n");
    const index = Number(chunk.dataset.lines) - fromEnd;
    const start = lines.slice(0, index).reduce((length, line) => length + line.length + 1, 0);
    getSelection().setBaseAndExtent(text, start, text, start + lines[index].length);
    const line = getSelection().getRangeAt(0).getBoundingClientRect();
    this.box.scrollTop += line.top - this.box.getBoundingClientRect().top - this.box.clientHeight / 3;
    this.box.scrollIntoView({ block: "nearest" });
    this.box.focus({ preventScroll: true });
    return true;
  }

  addChunk() {
    const chunk = document.createElement("div");
    chunk.className = "chunk";
    chunk.dataset.lines = "0";
    this.box.append(chunk);
    return chunk;
  }
}
