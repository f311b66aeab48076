// The branching explorer: rough.
import { plane, pathThrough, roundTicks, textAt, xAxis, yAxis } from "./chart.js";
import { button, drawAtWidth, html, keepState, nearest, openCard, part, range, signed, slider, svg,
  verdict } from "./explorer.js";

export function render({ model, el }) {
  const card = openCard(el, "ReLU branching explorer");
  const { state, set, update, reset } = keepState(model, card, ["radius"], show);
  const { node: verdictNode, say } = verdict(card);
  const ends = model.get("radii");
  const lowest = slider({ label: "ε", stops: ends, index: 0, main: true, text: (i) => signed(ends[i]),
    change: (i) => update({ radius: ends[i] }) });
  function show() { lowest.show(nearest(ends, state.radius)); say(`${state.radius}`); }
  card.append(part(lowest.node), verdictNode, part(button("Reset", reset)));
  show();
  return () => card.close();
}
