// A page is printed light, whatever the screen is, for a dark one would be dark with black headings;
// and with all its folds open. Afterwards it is as it was.

const { dataset } = document.documentElement;
let theme = null, opened = [];

addEventListener("beforeprint", () => {
  theme ??= dataset.theme;
  dataset.theme = "light";
  opened.push(...document.querySelectorAll(".bd-article details:not([open])"));
  for (const details of opened) details.open = true;
});
addEventListener("afterprint", () => {
  dataset.theme = theme;
  for (const details of opened) details.open = false;
  theme = null;
  opened = [];
});
