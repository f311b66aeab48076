// Where a lab takes a reader's picture, and gives one back: by button, drop, paste or camera.

import { button, html, part } from "./explorer.js";

let latest = null; // of several desks on a page, the one that was used last hears a paste

/** `take(file)` hears of a picture, `save()` that the one on the right is wanted. */
export function openDesk({ card, kernel, take, save }) {
  const said = html("p", { class: "muted", role: "status", "aria-live": "polite" });
  const say = (text) => { said.textContent = text; };

  const picker = (label, attributes) => {
    const input = html("input", { type: "file", hidden: true, ...attributes, onchange: () => {
      if (input.files[0]) take(input.files[0]);
      input.value = ""; // the same file may be chosen again
    } });
    return html("span", {}, button(label, () => input.click()), input);
  };
  const camera = matchMedia("(pointer: coarse)").matches
    ? [picker("Take a photo", { accept: "image/*", capture: "environment" })] : [];
  const keep = button("Save as PNG", save);
  const show = (ready) => { keep.disabled = !ready; };
  show(false);
  const place = kernel ? "Your photo goes to your own kernel and nowhere else."
    : "Your photo never leaves this page.";
  const node = html("div", { class: "desk" }, part(
    html("p", {}, "Your own photo ", html("span", { class: "muted" },
      `Choose one, or drop or paste it here. ${place}`)),
    html("div", { class: "row buttons" }, picker("Choose a photo", { accept: "image/*" }), ...camera,
      keep, picker("Load a saved PNG", { accept: "image/png" })), said));

  const carriesFile = (event) => event.dataTransfer?.types.includes("Files");
  const hover = (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    card.classList.add("dropping");
  };
  const leave = (event) => {
    if (!card.contains(event.relatedTarget)) card.classList.remove("dropping");
  };
  const drop = (event) => {
    card.classList.remove("dropping");
    if (!carriesFile(event)) return;
    event.preventDefault();
    takeFrom(event.dataTransfer);
  };
  const takeFrom = ({ files }) => (files.length ? take(files[0]) : say("No picture came along."));
  const use = () => { latest = card; };
  const paste = (event) => {
    const here = event.composedPath().includes(card);
    const nowhere = latest === card && document.activeElement === document.body;
    if (!(here || nowhere) || event.defaultPrevented) return;
    const files = event.clipboardData?.files ?? [];
    if (!files.length && event.composedPath()[0].matches?.("input")) return; // text for a field
    event.preventDefault();
    takeFrom({ files: files.length ? files : [] });
  };
  const listeners = [[card, "dragenter", hover], [card, "dragover", hover], [card, "dragleave", leave],
    [card, "drop", drop], [card, "pointerdown", use], [card, "focusin", use],
    [document, "paste", paste]];
  for (const [target, event, listener] of listeners) target.addEventListener(event, listener);
  card.until(() => {
    for (const [target, event, listener] of listeners) target.removeEventListener(event, listener);
  });
  return { node, say, show };
}

export const DESK_CSS = `
.desk { margin-top: 14px; border-top: 1px solid var(--line); }
.desk .part { margin-top: 10px; }
.desk .buttons { margin: 6px 0; gap: 6px; }
.desk [role="status"] { min-height: 1.45em; }
.card.dropping { box-shadow: inset 0 0 0 3px var(--control); }
`;
