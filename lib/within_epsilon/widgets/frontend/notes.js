// What the reader has answered, kept in this browser alone: by page, under the question's words.

const KEY = "within-epsilon";
let unkept = {}; // where the browser keeps nothing, notes last as long as the page

function read() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    return unkept;
  }
}

function write(notes) {
  unkept = notes;
  try {
    localStorage.setItem(KEY, JSON.stringify(notes));
  } catch { /* full or forbidden */ }
}

/** A page's name: the last part of its address. */
export const pageOf = (path) => path.split("/").pop().replace(/\.html$/, "");

/** A page's notes: how many tasks it has, and the answers given. */
export function notesOf(page) {
  const { of = 0, answers = {} } = read()[page] ?? {};
  return { of, answers, done: Object.values(answers).filter(Boolean).length };
}

/** Note how many tasks a page has; other questions than these were reworded and are dropped. */
export function note(page, questions) {
  const { answers } = notesOf(page);
  const kept = Object.entries(answers).filter(([question]) => questions.includes(question));
  write({ ...read(), [page]: { of: questions.length, answers: Object.fromEntries(kept) } });
}

/** Keep an answer: "" if it was looked up, undefined to forget it. */
export function keep(page, question, answer) {
  const { of, answers } = notesOf(page);
  write({ ...read(), [page]: { of, answers: { ...answers, [question]: answer } } });
}

/** Forget one page, or all. */
export function forget(page) {
  write(page ? { ...read(), [page]: undefined } : {});
}
