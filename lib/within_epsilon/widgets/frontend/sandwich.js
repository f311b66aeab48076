// The sandwich explorer: rough.
import { plane, pathThrough, roundTicks, textAt, xAxis, yAxis } from "./chart.js";
import { button, drawAtWidth, html, keepState, nearest, openCard, part, range, signed, slider, svg,
  verdict } from "./explorer.js";

export function render({ model, el }) {
  const card = openCard(el, "ReLU sandwich explorer");
  const { state, set, update, reset } = keepState(model, card, ["epsilon"], show);
  const { node: verdictNode, say } = verdict(card);
  const ends = model.get("epsilons");
  const lowest = slider({ label: "ε", stops: ends, index: 0, main: true, text: (i) => signed(ends[i]),
    change: (i) => update({ epsilon: ends[i] }) });
  function show() { lowest.show(nearest(ends, state.epsilon)); say(`${state.epsilon}`); }
  card.append(part(lowest.node), verdictNode, part(button("Reset", reset)));
  show();
  return () => card.close();
}
