// How explorers look: the book's palette in light and dark, and the controls they share.

export const CSS = `
:host { display: block; container-type: inline-size; color-scheme: light;
  --surface: #fff; --text: #1f2328; --muted: #59636e; --line: #d1d9e0; --track: #e3e8ed;
  --true: #0072b2; --adversary: #d55e00; --proved: #009e73; --unknown: #b57d00;
  --gradient: #c0699a; --other: #7d8590; --control: #3f4954;
  --true-text: #00659e; --adversary-text: #a84a00; --gradient-text: #984a78;
  --proved-text: #00704f; --unknown-text: #805800; }
:host([data-theme="dark"]) { color-scheme: dark;
  --surface: #171b21; --text: #e6e9ed; --muted: #a5afba; --line: #3b444e; --track: #333b45;
  --true: #4da6de; --adversary: #ee7f35; --proved: #2abf93; --unknown: #e69f00;
  --gradient: #d98bb9; --other: #8b949e; --control: #cdd5dd;
  --true-text: #6cb8e8; --adversary-text: #f79a5c; --gradient-text: #e3a3c8;
  --proved-text: #45cfa5; --unknown-text: #f0b429; }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
.card { font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  font-variant-numeric: tabular-nums; color: var(--text); background: var(--surface);
  box-shadow: inset 0 0 0 1px var(--line); border-radius: 10px; padding: 12px 0 14px;
  margin: 4px 0; overflow: hidden; text-align: left; }
.part { padding: 0 16px; margin: 12px 0 0; }
.part:first-of-type { margin-top: 0; }
.row { display: flex; flex-wrap: wrap; gap: 6px 16px; align-items: center; }
.row .row { gap: 6px; }
.row.bottom, .corner { align-items: flex-end; position: relative; }
.corner > :first-child legend { line-height: 44px; }
.corner > button { position: absolute; top: 0; right: 0; }
.grow { flex: 1 1 270px; min-width: 0; }
.spread { justify-content: space-between; }
.muted { color: var(--muted); font-size: 13px; }
p, figure, fieldset, ol, ul, dl, dd { margin: 0; padding: 0; border: 0; list-style: none; }
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap; }
:focus { outline: none; }
:focus-visible, input:focus-visible + .option { outline: 3px solid var(--control); outline-offset: 2px; }

.label { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 12px; }
.readout { font-weight: 600; }
.main .label { font-size: 16px; }
.main .readout { font-size: 18px; }
input[type="range"] { appearance: none; display: block; width: 100%; height: 44px; margin: 0;
  background: none; cursor: pointer; touch-action: pan-y; --size: 22px; border-radius: 8px; }
.main input[type="range"] { --size: 28px; }
input[type="range"] { --bar: linear-gradient(to right, transparent var(--from),
  var(--control) var(--from) var(--to), transparent var(--to)) var(--track); }
input[type="range"]::-webkit-slider-runnable-track { height: 8px; border-radius: 4px;
  border: 1px solid var(--other); background: var(--bar); }
input[type="range"]::-moz-range-track { height: 6px; border-radius: 4px;
  border: 1px solid var(--other); background: var(--bar); }
input[type="range"]::-webkit-slider-thumb { appearance: none; width: var(--size);
  height: var(--size); margin-top: calc(3px - var(--size) / 2); border-radius: 50%;
  border: 3px solid var(--surface); background: var(--control); box-shadow: 0 0 0 1px var(--control); }
input[type="range"]::-moz-range-thumb { width: var(--size); height: var(--size);
  border-radius: 50%; border: 3px solid var(--surface); background: var(--control);
  box-shadow: 0 0 0 1px var(--control); box-sizing: border-box; }
.ticks { position: relative; height: 20px; margin: -8px 14px 0; }
.tied { white-space: nowrap; }
.ticks span { position: absolute; transform: translateX(-50%); white-space: nowrap; }
.ticks .last { left: auto !important; right: -14px; transform: none; }

legend { padding: 0; margin: 0 0 4px; }
.choice { display: flex; flex-wrap: wrap; gap: 6px; }
.choice label { position: relative; cursor: pointer; }
.choice :first-child:nth-last-child(11) { flex-basis: 100%; } /* a word, then ten digits */
.choice input { position: absolute; inset: 0; opacity: 0; margin: 0; cursor: pointer; }
.option, button { display: inline-flex; align-items: center; justify-content: center;
  min-height: 44px; min-width: 44px; padding: 4px 12px; font: inherit; color: var(--text);
  background: var(--surface); border: 1px solid var(--other); border-radius: 8px; }
.choice input:checked + .option { font-weight: 600; border-color: var(--control);
  color: var(--text); box-shadow: inset 0 0 0 2px var(--control); }
button { cursor: pointer; touch-action: manipulation; }
button:hover, .choice label:hover .option { background: var(--track); }
button[disabled] { color: var(--muted); cursor: default; }

.verdict { min-height: 1.4em; font-size: 17px; line-height: 1.4; text-wrap: pretty; }
.verdict b { font-weight: 600; }
.mark { display: inline-block; margin-right: 8px; padding: 0 9px; border-radius: 99px;
  font-size: 14px; font-weight: 600; border: 2px solid var(--other); color: var(--text); }
.mark.true { border-color: var(--true); color: var(--true-text); }
.mark.adversary { border-color: var(--adversary); color: var(--adversary-text); }
.mark.proved { border-color: var(--proved); color: var(--proved-text); }
.mark.unknown { border-style: dashed; border-color: var(--unknown); }

.bars li { display: grid; align-items: center; gap: 0 10px; min-height: 26px;
  grid-template-columns: minmax(0, 13em) minmax(0, 1fr) 4.4em; }
.bars .name { overflow-wrap: anywhere; line-height: 1.25; }
.bars small { font-size: 12px; color: var(--muted); white-space: nowrap; }
.bars .value { text-align: right; }
.bar { height: 16px; border-radius: 3px; background: var(--track); overflow: hidden; }
.bar i { display: block; height: 100%; min-width: 1px; background: var(--other); }
.true .bar i { background: var(--true); }
.adversary .bar i { background: repeating-linear-gradient(-45deg, var(--adversary) 0 5px,
  color-mix(in srgb, var(--adversary) 72%, var(--surface)) 5px 8px); }
.true .name, .true .value { color: var(--true-text); font-weight: 600; }
.adversary .name, .adversary .value { color: var(--adversary-text); font-weight: 600; }

sub { font-size: 75%; line-height: 0; }
svg { display: block; width: 100%; overflow: visible; }
svg text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  fill: var(--muted); stroke: var(--surface); stroke-width: 3px; paint-order: stroke; }
@container (max-width: 520px) {
  .part { padding: 0 12px; }
  .verdict { min-height: 2.8em; }
  .row.bottom > :first-child legend { line-height: 44px; }
  .row.bottom > button { position: absolute; top: 0; right: 0; }
  .choice :first-child:nth-last-child(11) ~ * { flex: 0 0 calc(20% - 6px); }
  .bars li { grid-template-columns: minmax(0, 1fr) 4.4em; min-height: 40px; }
  .bars .bar { grid-row: 2; grid-column: 1 / -1; }
}
@media print { button { display: none; } }
`;
