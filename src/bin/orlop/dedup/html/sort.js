"use strict";
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement;
    const column = head.cellIndex;
    const body = head.closest("table").tBodies[0];
    const figures = body.rows.length > 0 && body.rows[0].cells[column].classList.contains("figure");
    // Figures are wanted from the greatest down, words from the first on.
    const wanted = figures ? "descending" : "ascending";
    const turned = figures ? "ascending" : "descending";
    const order = head.getAttribute("aria-sort") === wanted ? turned : wanted;
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const compare = figures ? (a, b) => value(a) - value(b) : (a, b) => value(a).localeCompare(value(b));
    body.append(...[...body.rows].sort((a, b) => sign * compare(a, b)));
  });
}
