// One visit with Firefox, for test_firefox.py: touches each lab's slider, and tells what they say.
// Reads { url, firefox } as JSON from standard input, answers with JSON.

import { createRequire } from "node:module";
import { json } from "node:stream/consumers";

const require = createRequire(import.meta.url); // looks into $NODE_PATH, too
const { default: module, ...named } = require("puppeteer-core");
const { url, firefox } = await json(process.stdin);
const browser = await (module ?? named).launch({ browser: "firefox", executablePath: firefox, headless: true });
try {
  const page = await browser.newPage();
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  await page.goto(url);
  await page.waitForFunction(() => document.querySelector("within-epsilon-explorer[data-alive]"));
  const labs = await page.evaluate(async () => {
    const until = async (find) => {
      for (let tries = 0; tries < 600; tries += 1) {
        const found = find();
        if (found) return found;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      return "";
    };
    const found = [];
    for (const host of document.querySelectorAll("within-epsilon-explorer > div:not([hidden])")) {
      host.scrollIntoView();
      const root = host.shadowRoot;
      const text = (name) => root.querySelector(name)?.textContent ?? "";
      const range = root.querySelector(".main input[type=range]");
      range.value = +range.value + 1;
      range.dispatchEvent(new Event("input", { bubbles: true }));
      const notice = await until(() => /^The network runs|recorded/.test(text(".notice")) && text(".notice"));
      await new Promise((resolve) => setTimeout(resolve, 1000));
      found.push({ notice, verdict: text(".verdict"), control: text(".control") });
    }
    return found;
  });
  process.stdout.write(JSON.stringify({ labs, complaints }));
} finally {
  await browser.close();
}
