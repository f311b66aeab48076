// The page's side: finds <within-epsilon-explorer kind="…"> and brings each to life when it comes
// near the screen. Only the modules that a page uses are loaded; without them the still picture
// inside the element stands. And makes predictions and quizzes wait for the reader.

import { makeModel } from "./models.js";

if (document.querySelector(".predict, .quiz, .exercise, table.chapters")) import("./reading.js");
import("./paper.js");

/** The state that the notebook wrote into the element, with the interface of a widget's model. */
export function pageModel(element) {
  const state = JSON.parse(element.querySelector('script[type="application/json"]').textContent);
  for (const image of element.querySelectorAll("img[data-state]")) {
    state[image.dataset.state] = image.getAttribute("src"); // one copy serves picture and state
  }
  return makeModel(state);
}

async function wake(element) {
  const still = [...element.children];
  const { render } = await import(`./${element.getAttribute("kind")}.js`);
  await render({ model: pageModel(element), el: element });
  for (const child of still) child.hidden = true;
  element.dataset.alive = "";
}

class WithinEpsilonExplorer extends HTMLElement {
  connectedCallback() {
    if (this.watch) return;
    this.watch = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      this.watch.disconnect();
      wake(this);
    }, { rootMargin: "800px 0px" });
    this.watch.observe(this);
  }
}

customElements.define("within-epsilon-explorer", WithinEpsilonExplorer);
