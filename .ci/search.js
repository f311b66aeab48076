// How the book's search ranks and quotes: chapters before the library's reference, the one named
// after what is asked for before all others, and where a word is in several, the chapter that has
// it first. Sphinx reads this before its own search.

const asked = (new URLSearchParams(location.search).get("q") ?? "").trim().toLowerCase();

var Scorer = {
  score: ([page, title, , , score]) => {
    const [, number] = /^chapters\/(\d\d)_/.exec(page) ?? [];
    // A section's title begins with its chapter's: "Threat models > The ball".
    const named = asked && title.split(" > ")[0].toLowerCase().includes(asked);
    if (number) return score + (named ? 200 : 100) - number / 10;
    return page === "chapters/api" ? score - 100 : score;
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 5.3, // a word in a title outweighs three chapters, not four
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};

// An excerpt quotes prose: no formulas' source, no buttons, no table of contents.
const UNQUOTED = ".math, .bd-header-article, #jb-print-docs-body, .folded, .visually-hidden";

document.addEventListener("DOMContentLoaded", () => {
  const { htmlToText } = Search;
  Search.htmlToText = (text, anchor) => {
    const page = new DOMParser().parseFromString(text, "text/html");
    for (const node of page.querySelectorAll(UNQUOTED)) node.remove();
    return htmlToText(page.documentElement.outerHTML, anchor);
  };
});
