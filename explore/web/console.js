// The console: what the guest writes as text, and keys as what a terminal sends.
// Of a terminal's control functions there are those that line editors use
// (ECMA-48); others are dropped.
"use strict";

const maxConsole = 64 << 10; // characters

class Terminal {
  #element;
  #done = ""; // lines that have ended
  #line = []; // the last one, by character
  #at = 0; // in #line
  #rest = ""; // a control sequence that has not come whole

  constructor(element) {
    this.#element = element;
  }

  // write shows text, and the end of it if the end was shown before.
  write(text) {
    text = this.#rest + text;
    this.#rest = "";
    while (text !== "") {
      let [piece] = text;
      if (piece === "\x1b") {
        const sequence = /^\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[^[\]])/.exec(text);
        if (!sequence && text.length < 256) {
          this.#rest = text;
          break;
        }
        piece = sequence ? sequence[0] : "\x1b";
      }
      this.#put(piece);
      text = text.slice(piece.length);
    }
    const e = this.#element;
    const atEnd = e.scrollTop + e.clientHeight >= e.scrollHeight - 4;
    this.#done = this.#done.slice(-maxConsole);
    e.textContent = this.#done + this.#line.join("");
    if (atEnd) e.scrollTop = e.scrollHeight;
  }

  // put takes a character or a control sequence.
  #put(piece) {
    const control = /^\x1b\[(\d*)([CDJK])$/.exec(piece);
    if (control) {
      const n = Number(control[1]) || 1;
      if (control[2] === "C") this.#at += n;
      else if (control[2] === "D") this.#at = Math.max(0, this.#at - n);
      else if (control[1] === "" || control[1] === "0") this.#line.length = Math.min(this.#line.length, this.#at);
    } else if (piece === "\n") {
      this.#done += this.#line.join("") + "\n";
      this.#line = [];
      this.#at = 0;
    } else if (piece === "\r") {
      this.#at = 0;
    } else if (piece === "\b") {
      this.#at = Math.max(0, this.#at - 1);
    } else if (piece >= " " && piece !== "\x7f" || piece === "\t") {
      this.#at = Math.min(this.#at, 4096);
      while (this.#line.length < this.#at) this.#line.push(" ");
      this.#line[this.#at++] = piece;
    }
  }
}

const keys = {
  Enter: "\r", Backspace: "\x7f", Escape: "\x1b", Delete: "\x1b[3~", Home: "\x1b[H", End: "\x1b[F",
  ArrowUp: "\x1b[A", ArrowDown: "\x1b[B", ArrowRight: "\x1b[C", ArrowLeft: "\x1b[D",
};

// typed is what a terminal sends for a key; undefined for one that stays the
// browser's, such as Tab, which leads on to the next part of the page.
function typed(event) {
  if (event.metaKey || event.altKey || event.isComposing) return undefined;
  if (event.ctrlKey) return /^[a-z[\\\]]$/i.test(event.key) ? String.fromCharCode(event.key.toUpperCase().charCodeAt(0) & 0x1f) : undefined;
  return keys[event.key] ?? ([...event.key].length === 1 ? event.key : undefined);
}
