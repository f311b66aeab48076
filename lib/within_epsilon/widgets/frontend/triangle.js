// The triangle explorer: rough.
import { plane, pathThrough, roundTicks, textAt, xAxis, yAxis } from "./chart.js";
import { button, drawAtWidth, html, keepState, nearest, openCard, part, range, signed, slider, svg,
  verdict } from "./explorer.js";

export function render({ model, el }) {
  const card = openCard(el, "ReLU triangle explorer");
  const { state, set, update, reset } = keepState(model, card, ["lower", "upper", "slope"], show);
  const { node: verdictNode, say } = verdict(card);
  const ends = range(-3, 3, 0.1);
  const lowest = slider({ label: "Lower end l", stops: ends, index: 0, main: true, text: (i) => signed(ends[i]),
    change: (i) => update({ lower: ends[i], upper: Math.max(ends[i], state.upper) }) });
  function show() { lowest.show(nearest(ends, state.lower)); say(`${state.lower} ${state.upper} ${state.slope}`); }
  card.append(part(lowest.node), verdictNode, part(button("Reset", reset)));
  show();
  return () => card.close();
}
