// Questions of the quiz, asked before they are answered, and the ticks of exercises.
// CONTRIBUTING.md has the markup.

import { html } from "./explorer.js";
import { words } from "./predict.js";

let serial = 0;

/** A choice as a radio button, around what the notebook wrote. */
function option(item, name, value) {
  const right = item.querySelector(":scope > strong, :scope > p > strong");
  const input = html("input", { type: "radio", name, value, required: true });
  const said = right ?? item.querySelector("p") ?? item;
  const label = html("label", {}, input, html("span", {}, ...said.childNodes));
  return { input, label, right: Boolean(right) };
}

/** One question as a task: the fold gives way to a form; its answer follows a choice. */
function question(fold, tell) {
  const title = fold.querySelector(".sd-summary-text") ?? fold.querySelector("summary");
  const body = fold.querySelector(".sd-summary-content");
  const list = body?.querySelector("ul, ol");
  if (!list) return null;
  const text = `quiz: ${words(title)}`;
  const name = `quiz-${++serial}`;
  const options = [...list.children].map((item, i) => option(item, name, i + 1));
  list.remove();
  const reasons = html("div", { class: "reasons" }, ...body.childNodes);
  const status = html("p", { class: "said", role: "status" });
  const check = html("button", { type: "submit" }, "Check");
  const again = html("button", { type: "button", class: "quiet", onclick: () => {
    show(undefined);
    tell(text, undefined);
    options[0].input.focus();
  } }, "Ask me again");
  const form = html("form", { class: "question", onsubmit: (event) => {
    event.preventDefault();
    const said = form.querySelector("input:checked").value;
    show(said);
    tell(text, said);
    again.focus();
  } }, html("fieldset", {}, html("legend", {}, ...title.childNodes), ...options.map(({ label }) => label)),
  status, reasons, html("p", {}, check, again));
  fold.replaceWith(form);
  const show = (said) => {
    const answered = said !== undefined;
    options.forEach(({ input, label, right }, i) => {
      input.checked = String(i + 1) === said;
      input.disabled = answered;
      label.classList.toggle("right", answered && right);
      label.classList.toggle("wrong", input.checked && !right);
    });
    const hit = options[said - 1]?.right;
    status.textContent = !said ? "" : hit ? "Right." : "Not so: the right answer is marked.";
    check.hidden = answered;
    reasons.hidden = again.hidden = !answered;
  };
  return { question: text, show, open: () => { if (reasons.hidden) show(""); } };
}

/** The tick of an exercise. */
function tick(box, tell) {
  const title = box.querySelector(".admonition-title");
  const text = words(title);
  const input = html("input", { type: "checkbox", "aria-label": `Done: ${text}`,
    onchange: () => tell(text, input.checked ? "done" : undefined) });
  box.append(html("p", {}, html("label", { class: "tick" }, input, " Done")));
  return { question: text, show: (said) => { input.checked = said === "done"; }, open() {} };
}

const tasks = (article, selector, make, tell) => [...article.querySelectorAll(selector)]
  .map((node) => make(node, tell)).filter(Boolean);

export const questions = (article, tell) => tasks(article, "details.quiz", question, tell);
export const exercises = (article, tell) => tasks(article, ".admonition.exercise", tick, tell);
