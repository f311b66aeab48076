// A page that waits for its reader: predictions, quiz and exercises, what was answered, and how far
// one has come. Without this script everything on the page is simply open.

import { html } from "./explorer.js";
import { forget, keep, note, notesOf, pageOf } from "./notes.js";
import { predictions } from "./predict.js";
import { exercises, questions } from "./quiz.js";

const page = pageOf(location.pathname);

/** Open what holds the place that the address names, and go there. */
function goTo(tasks) {
  const place = location.hash && document.getElementById(location.hash.slice(1));
  if (!place) return;
  const task = tasks.find(({ folded }) => folded?.contains(place));
  const details = place.closest("details:not([open])");
  if (details) details.open = true;
  task?.open();
  if (details || task) place.scrollIntoView();
}

/** A search whose words stand in folds alone has opened them. */
function showHits(tasks) {
  const hits = [...document.querySelectorAll(".bd-article .highlighted")]
    .filter((hit) => !hit.closest("script")); // an explorer's data are no text
  const folds = tasks.filter(({ folded }) => hits.some((hit) => folded?.contains(hit)));
  if (hits.every((hit) => folds.some(({ folded }) => folded.contains(hit)))) {
    for (const task of folds) task.open();
  }
}

/** The line at the end of a page: how far one has come, and the way back. */
function summary(kinds, refresh) {
  const said = html("span", { role: "status" });
  const all = Object.values(kinds).flat();
  const line = html("p", { class: "reading" }, said,
    html("button", { type: "button", class: "quiet", onclick: () => {
      for (const task of all) task.open();
    } }, "Open everything"),
    html("button", { type: "button", class: "quiet", onclick: () => {
      forget(page);
      refresh();
    } }, "Forget my answers on this page"));
  const count = () => {
    const { answers } = notesOf(page);
    const parts = Object.entries(kinds).filter(([, tasks]) => tasks.length).map(([kind, tasks]) =>
      `${tasks.filter(({ question }) => answers[question]).length} of ${tasks.length} ${kind}`);
    said.textContent = `You have answered ${parts.join(", ")} of this page. Only this browser knows.`;
  };
  return { line, count };
}

/** Make a chapter wait. */
function readChapter(article) {
  const tell = (question, said) => { keep(page, question, said); count(); };
  const kinds = { predictions: predictions(article, tell), "quiz questions": questions(article, tell),
    exercises: exercises(article, tell) };
  const tasks = Object.values(kinds).flat();
  if (!tasks.length) return;
  const refresh = () => {
    note(page, tasks.map(({ question }) => question));
    const { answers } = notesOf(page);
    for (const { question, show } of tasks) show(answers[question]);
    count();
  };
  const { line, count } = summary(kinds, refresh);
  article.append(line);
  refresh();
  goTo(tasks);
  addEventListener("hashchange", () => goTo(tasks));
  if (document.readyState === "complete") showHits(tasks);
  else addEventListener("load", () => showHits(tasks)); // when the theme has marked them
}

/** Say in the book's table of chapters how far one has come in each, and offer to forget it. */
function showProgress(table) {
  const marks = [];
  for (const link of table.querySelectorAll("a[href]")) {
    const { of, done } = notesOf(pageOf(link.pathname));
    if (!done) continue;
    marks.push(html("small", { class: "progress-mark" }, ` ${done === of ? "✓ all" : `${done} of ${of}`} done`));
    link.after(marks.at(-1));
  }
  if (!marks.length) return;
  const line = html("p", { class: "reading" },
    html("span", { role: "status" }, "What you have answered is kept in this browser alone."),
    html("button", { type: "button", class: "quiet", onclick: () => {
      forget();
      for (const mark of marks) mark.remove();
      line.firstChild.textContent = "Forgotten.";
    } }, "Forget all my answers"));
  (table.closest(".pst-scrollable-table-container") ?? table).after(line);
}

for (const article of document.querySelectorAll(".bd-article")) readChapter(article);
for (const table of document.querySelectorAll(".bd-article table.chapters")) showProgress(table);
document.documentElement.dataset.reading = ""; // for whoever waits for it
