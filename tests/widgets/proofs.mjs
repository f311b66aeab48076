// The page's proofs under Node, for the Python tests: one job as JSON in, the answer as JSON out.

import { json } from "node:stream/consumers";
import { pathToFileURL } from "node:url";

const job = await json(process.stdin);
const load = (name) => import(new URL(`${name}.js`, `${pathToFileURL(job.frontend)}/`));
const { forward, marginRows, readLayers } = await load("mlp");
const bounds = await load("bounds");
const { makeProblem, openSearch } = await load("branch_and_bound");

const TASKS = {
  /** Bounds and attacks on every rival's margin. */
  sandwich: ({ layers: packed, pixels, epsilon, label }) => {
    const layers = readLayers(packed);
    const box = bounds.ballBox(pixels, epsilon);
    const known = [false, true].map((linear) => bounds.boundLayers(layers, box, linear));
    const rows = marginRows(layers.at(-1).rows, label).map(({ rival, row }) => {
      const { ibp, crown, corner } = bounds.lowerBounds(...known, row);
      const { value, point } = bounds.descend(layers, row, pixels, epsilon, [pixels, corner]);
      return { rival, ibp, crown, attack: value, point: [...point] };
    });
    return { rows, logits: [...forward(layers, pixels).at(-1)] };
  },
  /** A search by cases to its end. */
  search: ({ layers: packed, centre, radius, label, settings, most }) => {
    const layers = readLayers(packed);
    const search = openSearch(makeProblem(layers, centre, radius, label), { ...settings, start: centre });
    for (let i = 0; i < most && search.advance(); i += 1);
    const { history, lower, upper, witness, over, status, leaves } = search.report();
    return { history, lower, upper, witness, over, status,
      leaves: leaves.map(({ polygon, bound }) => ({ polygon, bound: Number.isFinite(bound) ? bound : null })) };
  },
};
process.stdout.write(JSON.stringify(job.jobs.map((one) => TASKS[one.task](one))));
