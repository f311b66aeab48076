// One of a thousand classes, by typing a part of its name: a combobox with a list of what fits.

import { html } from "./explorer.js";

const MOST = 60; // options in the list at a time

let lists = 0;

/** The places of the names that a text is found in, those with a word that begins so first. */
export function search(names, text) {
  const wanted = text.trim().toLowerCase();
  const ranked = names.map((name, place) => {
    const at = ` ${name.toLowerCase()}`.indexOf(wanted);
    const word = ` ${name.toLowerCase()}`.search(new RegExp(`[^\\p{L}\\p{N}]${escaped(wanted)}`, "u"));
    return { place, rank: word === 0 ? 0 : word > 0 ? 1 : at > 0 ? 2 : 3 };
  });
  return ranked.filter(({ rank }) => rank < 3).sort((a, b) => a.rank - b.rank)
    .map(({ place }) => place);
}

// Not the hyphen: with the flag u, a pattern must not escape it.
const escaped = (text) => text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");

/** A text field that finds classes. `value` is a place among `names`, or null, which is called
 * `nothing()`; `change(value)` hears what was chosen. */
export function chooseCategory({ label, nothing, names, value, change }) {
  const id = `categories-${++lists}`;
  const list = html("ul", { id, role: "listbox", "aria-label": label, class: "options", hidden: true });
  const said = html("span", { class: "unseen", role: "status" });
  const input = html("input", { id: `${id}-input`, type: "text", role: "combobox", autocomplete: "off",
    spellcheck: "false", placeholder: "type a name", "aria-expanded": "false", "aria-controls": id, "aria-autocomplete": "list" });
  const title = html("label", { for: `${id}-input` }, label);
  const node = html("div", { class: "combobox grow" }, title,
    html("div", { class: "field" }, input, list), said);
  let chosen = value;
  let options = []; // what the list holds: places, or null
  let active = -1;

  const nameOf = (place) => (place === null ? nothing() : names[place]);
  const isOpen = () => !list.hidden;

  function open(text) {
    const found = search(names, text);
    options = text.trim() ? found.slice(0, MOST) : [null, ...found.slice(0, MOST)];
    list.replaceChildren(...options.map((place, i) => html("li", { id: `${id}-${i}`, role: "option",
      "aria-selected": String(place === chosen), onpointerdown: (event) => event.preventDefault(),
      onclick: () => pick(i) }, nameOf(place))));
    if (!options.length) list.append(html("li", { role: "option", "aria-disabled": "true",
      class: "muted" }, "no class has that in its name"));
    const more = found.length - MOST;
    if (more > 0) list.append(html("li", { role: "option", "aria-disabled": "true", class: "muted" },
      `and ${more} more: type a part of the name`));
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    activate(text.trim() && options.length ? 0 : options.indexOf(chosen));
    said.textContent = text.trim() ? `${found.length} of ${names.length} classes` : "";
  }

  function activate(i) {
    list.children[active]?.classList.remove("active");
    active = i;
    const option = options.length ? list.children[i] : undefined;
    if (option) {
      option.classList.add("active");
      option.scrollIntoView({ block: "nearest" });
      input.setAttribute("aria-activedescendant", option.id);
    } else {
      input.removeAttribute("aria-activedescendant");
    }
  }

  function close() {
    list.hidden = true;
    active = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
    input.value = nameOf(chosen);
    said.textContent = "";
  }

  function pick(i) {
    const place = options[i];
    if (place === undefined) return;
    const news = place !== chosen;
    chosen = place;
    close();
    if (news) change(place);
  }

  const keys = {
    ArrowDown: () => activate(Math.min(options.length - 1, active + 1)),
    ArrowUp: () => activate(Math.max(0, active - 1)),
    PageDown: () => activate(Math.min(options.length - 1, active + 8)),
    PageUp: () => activate(Math.max(0, active - 8)),
    Enter: () => pick(active),
    Escape: close,
  };
  input.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.isComposing) return;
    if (!isOpen()) {
      if (!["ArrowDown", "ArrowUp", "Enter"].includes(event.key)) return;
      open("");
    } else if (keys[event.key]) {
      keys[event.key]();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation(); // Escape closes the list, not what is around it
  });
  input.addEventListener("focus", () => input.select());
  input.addEventListener("click", () => { if (!isOpen()) open(""); });
  input.addEventListener("input", () => open(input.value));
  input.addEventListener("blur", close);
  const show = (place) => {
    chosen = place;
    if (!isOpen()) input.value = nameOf(place);
  };
  show(value);
  return { node, show };
}

export const CATEGORY_CSS = `
.aim { align-items: flex-end; }
.combobox .field { position: relative; }
.combobox input { width: 100%; min-height: 44px; padding: 4px 12px; font: inherit;
  color: var(--text); background: var(--surface); border: 1px solid var(--other);
  border-radius: 8px; text-overflow: ellipsis; }
.options { position: absolute; z-index: 2; left: 0; right: 0; top: 100%; max-height: 264px;
  overflow-y: auto; background: var(--surface); border: 1px solid var(--other);
  border-radius: 8px; box-shadow: 0 6px 20px #0004; }
.options li { padding: 10px 12px; cursor: pointer; }
.options li.active, .options li:hover { background: var(--track); }
.options li[aria-selected="true"] { font-weight: 600; }
`;
