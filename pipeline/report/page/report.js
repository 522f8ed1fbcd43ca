"use strict";
// The table of messages: a search over all its cells, and columns that sort. Without this script
// the page shows the same, in the order of the cache.
document.documentElement.classList.add("js");
const table = document.getElementById("message-rows");
if (table) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const text = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const search = document.getElementById("search");
  const count = document.getElementById("count");

  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      row.hidden = !words.every((word) => text.get(row).includes(word));
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = `${shown} of ${rows.length} clips`;
  };
  search.addEventListener("input", filter);
  filter();

  const order = new Intl.Collator(undefined, { numeric: true });
  table.tHead.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const head = button.closest("th");
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
