// The symbol explorer: choose a symbol and see its name in words and in code, its shape, what it
// may be, and where it sits between image and loss. The shape waits until the reader asks for it.

import { button, choice, html, keepState, openCard, part, subscripted, verdict } from
  "./explorer.js";

const SYMBOLS_STYLE = `
.pipeline { display: flex; align-items: stretch; gap: 0; }
.pipeline li { display: flex; align-items: center; flex: 1 1 0; min-width: 0; }
.pipeline li + li::before { content: "→"; flex: none; width: 22px; text-align: center;
  color: var(--muted); }
.pipeline button { display: flex; flex: 1 1 auto; flex-direction: column; min-width: 0;
  min-height: 64px; height: 100%; padding: 6px 4px; line-height: 1.25; }
.pipeline button b { font: italic 600 18px Georgia, "Times New Roman", serif; }
.pipeline button small { font-size: 12px; color: var(--muted); }
.pipeline .here { box-shadow: inset 0 0 0 2px var(--control); border-color: var(--control); }
.pipeline .here small { color: var(--text); font-weight: 600; }
.tiles .option { font: italic 19px Georgia, "Times New Roman", serif; min-width: 46px; }
sub { font-size: 70%; }
pre { margin: 0; padding: 10px 12px; overflow-x: auto; border-radius: 8px;
  border: 1px solid var(--line); font: 12.5px/1.7 ui-monospace, Menlo, Consolas, monospace; }
code { font: 14px ui-monospace, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
mark { color: inherit; background: none; font-weight: 700; border-radius: 3px;
  box-shadow: inset 0 0 0 2px var(--control); padding: 1px 2px; margin: 0 -2px; }
dl { display: grid; align-content: start; align-items: baseline; gap: 4px 12px;
  grid-template-columns: 4.5em minmax(0, 1fr); }
dd [tabindex] { display: inline-flex; align-items: center; min-height: 44px; }
dt { color: var(--muted); }
.facts { display: grid; grid-template-columns: minmax(0, 4fr) minmax(0, 6fr); gap: 12px 24px; }
.printed { display: none; }
@media print { .printed { display: inline; } }
@container (max-width: 660px) { .tiles .choice { max-width: 312px; } } /* no tile on a row of its own */
@container (max-width: 520px) {
  .pipeline { flex-direction: column; }
  .pipeline li { flex-direction: column; align-items: stretch; }
  .pipeline li + li::before { content: "↓"; width: auto; line-height: 1.1; }
  .pipeline button { min-height: 44px; flex-direction: row; gap: 10px; }
  .facts { grid-template-columns: minmax(0, 1fr); }
}
`;

/** Lines of code with the places marked where a symbol's name in code occurs. */
function markedCode(lines, code) {
  const [name] = code.match(/[A-Za-z_]\w*/) ?? ["no name at all"]
  return lines.join("\n").split(new RegExp(`\\b(${name})\\b`))
    .map((piece, i) => (i % 2 ? html("mark", {}, piece) : piece));
}

export function render({ model, el }) {
  const [rows, parts, code] = ["rows", "parts", "code"].map((key) => model.get(key));
  const card = openCard(el, "Symbol explorer");
  const { state, set, reset } = keepState(model, card, ["symbol"], show);
  const asked = new Set(); // whose shape was asked for
  const stations = parts.map(({ key, symbol, name }) => {
    const node = html("button", { type: "button", onclick: () =>
      set("symbol", (rows.find((row) => row.part === key && row.symbol === symbol)
        ?? rows.find((row) => row.part === key) ?? rows[0]).symbol) },
    html("b", {}, ...subscripted(symbol)), html("small", {}, name));
    return { key, node };
  });
  const tiles = choice({ label: "Choose a symbol", value: state.symbol,
    options: rows.map(({ symbol, name }) => ({ value: symbol, label: symbol, more: `, ${name}` })),
    change: (value) => set("symbol", value) });
  const facts = html("dl");
  const listing = html("pre", { tabindex: 0, role: "group", "aria-label": "In code" });
  const { node: verdictNode, say } = verdict(card);

  /** The shape, once it was asked for. */
  function shapeOf({ symbol, shape }) {
    if (asked.has(symbol)) return html("span", { tabindex: -1 }, shape);
    const ask = button("Show its shape", () => {
      asked.add(symbol);
      show();
      facts.querySelector("[tabindex]").focus(); // the button is gone
    });
    return html("span", {}, ask, html("span", { class: "printed" }, shape)); // paper has no buttons
  }

  function show() {
    const row = rows.find(({ symbol }) => symbol === state.symbol) ?? rows[0];
    for (const { key, node } of stations) {
      node.classList.toggle("here", key === row.part);
      node.setAttribute("aria-pressed", String(key === row.part));
    }
    tiles.show(row.symbol);
    const fact = (name, ...value) => [html("dt", {}, name), html("dd", {}, ...value)];
    facts.replaceChildren(...fact("name", row.name), ...fact("in code", html("code", {}, row.code)),
      ...fact("shape", shapeOf(row)), ...fact("values", row.values));
    listing.replaceChildren(...markedCode(code, row.code));
    say(row.meaning, row.symbol);
  }

  card.append(html("style", {}, SYMBOLS_STYLE),
    part(html("ol", { class: "pipeline", "aria-label": "From image to loss" },
      ...stations.map(({ node }) => html("li", {}, node)))),
    part(html("div", { class: "corner tiles" }, tiles.node, button("Reset", () => { asked.clear(); reset(); }))),
    verdictNode, part(html("div", { class: "facts" }, facts, listing)));
  show();
  return () => card.close();
}
