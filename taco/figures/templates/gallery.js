// Sorting and filtering of the gallery's table; works from disk, without a server.
"use strict";

const body = document.querySelector("#samples tbody");
const rows = [...body.rows];

function sortBy(heading) {
  const headings = [...document.querySelectorAll("#samples thead th")];
  const column = headings.indexOf(heading);
  const descending = heading.getAttribute("aria-sort") === "ascending";
  for (const other of headings) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const numeric = heading.classList.contains("number");
  const value = (row) => row.cells[column].dataset.value;
  const compare = numeric
    ? (a, b) => Number(value(a)) - Number(value(b))
    : (a, b) => value(a).localeCompare(value(b), "en");
  // Cells without a value stay last in either direction.
  const known = rows.filter((row) => value(row) !== "").sort(compare);
  if (descending) known.reverse();
  body.append(...known, ...rows.filter((row) => value(row) === ""));
}

function filter() {
  const task = document.querySelector("#task").value;
  const words = document.querySelector("#search").value.toLowerCase();
  let shown = 0;
  for (const row of rows) {
    row.hidden = (task !== "" && row.dataset.task !== task) || !row.textContent.toLowerCase().includes(words);
    shown += row.hidden ? 0 : 1;
  }
  document.querySelector("#count").textContent = `${shown} of ${rows.length} samples`;
}

for (const button of document.querySelectorAll("#samples th button")) {
  button.addEventListener("click", () => sortBy(button.parentElement));
}
document.querySelector("#task").addEventListener("change", filter);
document.querySelector("#search").addEventListener("input", filter);
filter();
