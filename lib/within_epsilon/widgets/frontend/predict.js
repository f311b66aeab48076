// Predictions: what answers one stays folded until the reader has said something. CONTRIBUTING.md
// has the markup.

import { html } from "./explorer.js";

const RANGE = /^([-−]?[\d.]+) … ([-−]?[\d.]+)(?: by ([\d.]+))?$/;
const NUMBER = /^[-−]?[\d,]*\.?\d+/;
const CLOSE = 0.05; // of the range

const number = (text) => Number(text.replace("−", "-").replaceAll(",", ""));

/** The words of a node, as one line; formulas may be set or not yet, and do not count. */
export function words(node) {
  const copy = node.cloneNode(true);
  for (const formula of copy.querySelectorAll(".math")) formula.remove();
  return copy.textContent.replace(/\s+/g, " ").trim();
}

/** The same words at the beginning of a sentence, so that an answer may repeat a choice there. */
const capital = (text) => text.slice(0, 1).toUpperCase() + text.slice(1);

/** What a list item or an answer box begins with, in bold. */
const bold = (node) => node.querySelector(":scope > strong, :scope > p > strong");

/** The answer box that belongs to a prediction: the next one among its neighbours. */
function answerOf(box) {
  for (let next = box.nextElementSibling; next; next = next.nextElementSibling) {
    if (next.matches(".answer")) return next;
    if (next.matches(".predict, section")) return null;
  }
  return null;
}

/**
 * The last neighbour to fold: in a section all that follows, up to the next heading or prediction,
 * for it speaks of the answer. In a page's opening, where the objectives follow, the answer box.
 */
function lastToHide(answer) {
  let last = answer;
  if (answer.parentElement.querySelector(":scope > h1")) return last;
  while (last.nextElementSibling?.matches(":not(section, .predict)")) last = last.nextElementSibling;
  return last;
}

/** Put a box's neighbours, up to and with `last`, into a fold that a search in the page may open. */
function fold(box, last) {
  const folded = html("div", { class: "folded", hidden: "until-found" });
  box.after(folded);
  while (folded.lastElementChild !== last) folded.append(folded.nextSibling);
  return folded;
}

/** Buttons in place of the list; `say(text)` hears which. */
function choices(list, repeated, say) {
  const right = [...list.children].map(words).find((choice) => capital(choice) === capital(repeated));
  const buttons = [...list.children].map((item) =>
    html("button", { type: "button", onclick: () => say(words(item)) }, words(item)));
  list.replaceWith(html("div", { class: "choices", role: "group", "aria-label": "Your prediction" },
    ...buttons));
  return {
    show(said) {
      for (const button of buttons) {
        button.disabled = said !== undefined;
        button.setAttribute("aria-pressed", button.textContent === said);
      }
    },
    judge: (said) => ({ item: said, sentence: said === right
      ? `You said “${said}”. So it is.` : `You said “${said}”. The answer is “${right}”.` }),
  };
}

/** A field and a slider in place of the range; `say(text)` hears the number. */
function scale(code, right, say) {
  const [, ...parts] = RANGE.exec(words(code));
  const [min, max, step] = parts.map((part) => number(part ?? "1"));
  const unit = /^[^.,;:?!]*/.exec(code.nextSibling?.textContent ?? "")[0].trimEnd();
  const limits = { min, max, step, "aria-label": `Your prediction, from ${min} to ${max}` };
  const field = html("input", { type: "number", required: true, ...limits,
    oninput: () => { slider.value = field.value; } });
  const slider = html("input", { type: "range", ...limits,
    oninput: () => { field.value = slider.value; } });
  const enter = html("button", { type: "submit" }, "That is my guess");
  const paragraph = code.parentElement;
  code.replaceWith(field);
  const form = html("form", { class: "scale", onsubmit: (event) => {
    event.preventDefault();
    say(String(+field.value));
  } });
  paragraph.replaceWith(form);
  form.append(paragraph, slider, enter);
  const truth = number(NUMBER.exec(right)[0]);
  return {
    show(said) {
      field.value = said ?? "";
      slider.value = said || (min + max) / 2;
      for (const input of [field, slider, enter]) input.disabled = said !== undefined;
    },
    judge(said) {
      const off = said - truth;
      const close = Math.abs(off) <= CLOSE * (max - min);
      const item = off < 0 ? "too low" : "too high";
      const how = close ? (off ? "close" : "just so") : item;
      return { item: !close && item, sentence: `You said ${said}${unit}: ${how}. It is ${right}.` };
    },
  };
}

/** Say the sentence at the top of the answer, and mark the item about the reader's guess. */
function explain(answer, { item, sentence }) {
  answer.querySelector(".said")?.remove();
  for (const entry of answer.querySelectorAll("li")) {
    const about = capital(words(bold(entry) ?? entry));
    entry.classList.toggle("yours", Boolean(item) && about === capital(item));
  }
  if (sentence) answer.querySelector(".admonition-title").after(html("p", { class: "said" }, sentence));
}

/** One prediction as a task, or null if its answer is missing. */
function prediction(box, tell) {
  const answer = answerOf(box);
  const right = answer && bold(answer);
  const code = [...box.querySelectorAll("code")].find((node) => RANGE.test(words(node)));
  const list = box.querySelector("ul, ol");
  if (!right || !(code || list)) return null;
  const question = `predict: ${words(box)}`;
  const folded = fold(box, lastToHide(answer));
  const say = (said) => { show(said); tell(question, said); again.focus(); };
  const entry = code ? scale(code, words(right), say) : choices(list, words(right), say);
  const status = html("p", { class: "said", role: "status" });
  const look = html("span", {}, html("small", {}, "The text goes on once you have answered, or"), " ",
    html("button", { type: "button", class: "quiet", onclick: () => say("") }, "just show me"));
  const again = html("button", { type: "button", class: "quiet", onclick: () => {
    show(undefined);
    tell(question, undefined);
    box.querySelector("input, button").focus();
  } });
  const show = (said) => {
    const verdict = said ? entry.judge(said) : {};
    entry.show(said);
    status.textContent = verdict.sentence ?? "";
    explain(answer, verdict);
    look.hidden = said !== undefined;
    again.hidden = said === undefined;
    again.textContent = said ? "Guess again" : "Guess";
    if (said === undefined) folded.setAttribute("hidden", "until-found");
    else folded.removeAttribute("hidden");
  };
  folded.addEventListener("beforematch", () => say(""));
  box.append(status, html("p", { class: "d-print-none" }, look, again));
  return { question, folded, show, open: () => { if (folded.hidden) say(""); } };
}

/** The predictions of a page; `tell(question, said)` hears what the reader says. */
export const predictions = (article, tell) => [...article.querySelectorAll(".admonition.predict")]
  .map((box) => prediction(box, tell)).filter(Boolean);
