"use strict";
// The table of messages: filters by text, part, verdict, symbol and word, and columns that sort.
// Without this script the page shows the same, in the order of the file.
document.documentElement.classList.add("js");
const table = document.getElementById("message-rows");
if (table) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const text = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const heads = Number(table.dataset.heads);
  const [search, part, verdict, count, chips, still] =
    ["search", "part", "verdict", "count", "chips", "still"].map((id) => document.getElementById(id));

  // Symbols and words become buttons; of each the place is its number in the message.
  const button = (label) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = label;
    return made;
  };
  const tokens = new Map(), words = new Map();
  for (const row of rows) {
    const message = row.querySelector(".message"), meaning = row.querySelector(".meaning");
    const glosses = meaning ? Array.from(meaning.querySelectorAll("i")) : [];
    words.set(row, glosses.map((one) => one.textContent));
    glosses.forEach((one) => one.replaceWith(button(one.textContent)));
    tokens.set(row, meaning ? message.textContent.split(/\D+/) : []);
    if (meaning) {
      const pieces = message.textContent.split(/(\d+)/).filter(Boolean);
      message.replaceChildren(...pieces.map((one) => (/\d/.test(one) ? button(one) : one)));
    }
  }

  const chosen = []; // {place, kind: "symbol" or "word", value}
  const has = (row, one) => (one.kind === "symbol" ? tokens : words).get(row)[one.place] === one.value;
  const filter = () => {
    const terms = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const fits = terms.every((term) => text.get(row).includes(term)) &&
        (!part || !part.value || row.dataset.part === part.value) &&
        (!verdict || !verdict.value || row.dataset.verdict === verdict.value) &&
        chosen.every((one) => has(row, one));
      row.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    count.textContent = `${shown} of ${rows.length} clips`;
    chips.replaceChildren(...chosen.map((one) => {
      const place = `agent ${Math.floor(one.place / heads) + 1}, position ${(one.place % heads) + 1}`;
      const chip = button(`${place}: ${one.value} ×`);
      chip.title = "remove this filter";
      chip.addEventListener("click", () => {
        chosen.splice(chosen.indexOf(one), 1);
        filter();
      });
      return chip;
    }));
  };
  const choose = (one) => {
    const same = chosen.findIndex((other) => other.place === one.place);
    const old = same < 0 ? null : chosen.splice(same, 1)[0];
    if (!old || old.kind !== one.kind || old.value !== one.value) chosen.push(one); // else: off again
    filter();
  };
  for (const input of [search, part, verdict]) if (input) input.addEventListener("input", filter);
  body.addEventListener("click", (event) => {
    const clicked = event.target.closest("button");
    if (!clicked) return;
    const cell = clicked.closest("td");
    const place = Array.from(cell.querySelectorAll("button")).indexOf(clicked);
    const kind = cell.classList.contains("message") ? "symbol" : "word";
    choose({ place, kind, value: clicked.textContent });
  });
  for (const one of document.querySelectorAll("[data-place]")) {
    const made = button(one.textContent);
    made.className = one.className;
    made.title = "show the messages that have it";
    made.addEventListener("click", () => {
      chosen.length = 0;
      choose({ place: Number(one.dataset.place), kind: one.dataset.kind, value: one.textContent });
      document.getElementById("messages").scrollIntoView();
    });
    one.replaceWith(made);
  }
  filter();

  // A picture that stands still is drawn once.
  const moving = Array.from(body.querySelectorAll("img"));
  const stop = () => {
    for (const image of moving) {
      if (!still.checked) {
        if (image.still) image.still.replaceWith(image);
        image.still = null;
      } else if (!image.still) {
        image.loading = "eager";
        image.decode().then(() => {
          if (!still.checked || image.still) return;
          image.still = document.createElement("canvas");
          [image.still.width, image.still.height] = [image.naturalWidth, image.naturalHeight];
          image.still.getContext("2d").drawImage(image, 0, 0);
          image.replaceWith(image.still);
        });
      }
    }
  };
  if (still) {
    still.checked = matchMedia("(prefers-reduced-motion: reduce)").matches;
    still.addEventListener("input", stop);
    stop();
  }

  const order = new Intl.Collator(undefined, { numeric: true });
  table.tHead.addEventListener("click", (event) => {
    const clicked = event.target.closest("button");
    if (!clicked) return;
    const head = clicked.closest("th");
    const descending = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const key = (row) => row.cells[head.cellIndex].textContent.trim();
    const number = (value) => (value === "" ? NaN : Number(value));
    rows.sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      const [u, v] = [number(x), number(y)];
      const by = Number.isNaN(u) || Number.isNaN(v) ? order.compare(x, y) : u - v;
      return descending ? -by : by;
    });
    body.append(...rows);
  });
}
