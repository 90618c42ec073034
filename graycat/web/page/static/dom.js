// Building and updating the page. Texts go in as texts: nothing here, or elsewhere, turns a string into markup.

export const $ = (id) => document.getElementById(id);

/** Make an element. Attributes with the value false or null are left out; children are elements or texts. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

/** Write a text where it has changed: screen readers and selections are left alone otherwise. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Have a screen reader say something that is seen elsewhere on the page. */
export function announce(text) {
  $("announcer").textContent = text;
}

export function button(label, name, run) {
  const made = h("button", { type: "button" }, label);
  if (name !== label) made.setAttribute("aria-label", name);
  made.addEventListener("click", () => run(made));
  return made;
}

/**
 * A table whose rows stay where they are while their contents change, with the focus of whoever uses it.
 *
 * A row is {key, cells, actions}: cells are texts, actions are {label, name, run}.
 */
export class Table {
  constructor(place, caption, columns, empty) {
    this.body = h("tbody");
    this.none = h("p", { class: "quiet" }, empty);
    const heads = columns.map((column) => h("th", { scope: "col" }, column));
    this.element = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
      h("table", {}, h("thead", {}, h("tr", {}, ...heads)), this.body));
    this.element.hidden = true;
    place.replaceChildren(this.element, this.none);
    this.rows = new Map();
  }

  show(rows) {
    const kept = new Set(rows.map((row) => row.key));
    for (const [key, known] of this.rows) {
      if (!kept.has(key)) {
        known.element.remove();
        this.rows.delete(key);
      }
    }
    rows.forEach((row, index) => {
      const element = this.update(row);
      if (this.body.children[index] !== element) this.body.insertBefore(element, this.body.children[index] ?? null);
    });
    this.element.hidden = rows.length === 0;
    this.none.hidden = rows.length > 0;
  }

  update(row) {
    let known = this.rows.get(row.key);
    if (!known) {
      const cells = row.cells.map(() => h("td"));
      known = { element: h("tr", {}, ...cells), cells, actions: row.actions ? h("td") : null, labels: "", run: {} };
      if (known.actions) known.element.append(known.actions);
      this.rows.set(row.key, known);
    }
    row.cells.forEach((text, index) => {
      write(known.cells[index], text);
      known.cells[index].className = text.length > 30 ? "long" : "";
    });
    if (known.actions) this.updateActions(known, row.actions);
    return known.element;
  }

  updateActions(known, actions) {
    known.run = Object.fromEntries(actions.map((action) => [action.label, action.run]));
    const labels = actions.map((action) => action.label).join("\n");
    if (labels === known.labels) return;
    known.labels = labels;
    const focused = known.actions.contains(document.activeElement);
    known.actions.replaceChildren(
      ...actions.map(({ label, name }) => button(label, name, (element) => known.run[label](element))));
    if (focused) (known.actions.querySelector("button") ?? this.element).focus();
  }
}

/** Call something now and every few seconds while the page is seen, until the returned function is called. */
export function repeat(seconds, run) {
  let ended = false;
  let timer = 0;
  async function again() {
    if (!document.hidden) await run();
    if (!ended) timer = setTimeout(again, seconds * 1000);
  }
  again();
  return () => {
    ended = true;
    clearTimeout(timer);
  };
}

export function duration(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 90_000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms < 5_400_000) return `${Math.round(ms / 60_000)} min`;
  return `${Math.round(ms / 3_600_000)} h`;
}

export const age = (ms) => (ms ? `${duration(Math.max(Date.now() - ms, 0))} ago` : "");

export function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; bytes >= 1024 && unit < units.length - 1; unit++) bytes /= 1024;
  return `${unit ? bytes.toFixed(1) : bytes} ${units[unit]}`;
}

export const number = (value) => Math.round(value).toLocaleString("en");
