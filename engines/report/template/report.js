"use strict";
// What the page does beyond being read: order, filter and find its answers, and sort its tables. Without it everything is
// shown, the worst first.
const cards = document.querySelector("#cards");
const order = document.querySelector("#order");
const show = document.querySelector("#show");
const find = document.querySelector("#find");
const shown = document.querySelector("#shown");
const all = [...cards.querySelectorAll(".card")];

document.querySelector(".controls").hidden = false;

const orders = {
  worst: (a, b) => a.dataset.worst - b.dataset.worst,
  asked: (a, b) => a.dataset.asked - b.dataset.asked,
  name: (a, b) => a.dataset.name.localeCompare(b.dataset.name, undefined, { numeric: true }),
};

function arrange() {
  cards.append(...all.sort(orders[order.value]));
}

function filter() {
  const wanted = find.value.trim().toLowerCase();
  let questions = 0;
  let total = 0;
  for (const card of all) {
    const named = card.dataset.name.toLowerCase().includes(wanted);
    let left = 0;
    for (const question of card.querySelectorAll(".question")) {
      const isKind = show.value === "all" || question.dataset[show.value] === "1";
      const isFound = named || question.textContent.toLowerCase().includes(wanted);
      question.hidden = !(isKind && isFound);
      left += !question.hidden;
      total += 1;
    }
    card.hidden = left === 0;
    questions += left;
  }
  shown.textContent = `${questions} of ${total} questions shown`;
}

order.addEventListener("change", arrange);
show.addEventListener("change", filter);
find.addEventListener("input", filter);
filter();

// j and k walk the pictures, / goes to the field; nothing is taken from who types or holds a modifier.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, select, textarea")) {
    if (event.key === "Escape" && event.target === find) {
      find.value = "";
      filter();
      find.blur();
    }
    return;
  }
  if (event.key === "/") {
    event.preventDefault();
    find.focus();
    return;
  }
  const step = { j: 1, k: -1 }[event.key];
  if (!step) return;
  const visible = [...cards.querySelectorAll(".card:not([hidden])")];
  const at = visible.indexOf(document.activeElement.closest(".card"));
  const next = visible[at < 0 ? (step > 0 ? 0 : visible.length - 1) : at + step];
  if (next) {
    next.focus();
    next.scrollIntoView({ block: "start" });
  }
});

// A heading sorts its table by its column: numbers by their exact value, the rest by its words.
function keyOf(row, column) {
  const cell = row.cells[column];
  const number = cell.querySelector("data");
  return number && cell.matches(".number") ? Number(number.value) : cell.textContent.trim();
}

function sortBy(table, heading, column) {
  const ascending = heading.getAttribute("aria-sort") !== "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const rows = [...table.tBodies[0].rows].sort((a, b) => {
    const [x, y] = [keyOf(a, column), keyOf(b, column)];
    const isNumber = [typeof x === "number", typeof y === "number"];
    if (isNumber[0] !== isNumber[1]) return isNumber[0] ? -1 : 1; // what was not measured comes last, whichever way
    const difference = isNumber[0] ? x - y : x.localeCompare(y, undefined, { numeric: true });
    return ascending ? difference : -difference;
  });
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    button.addEventListener("click", () => sortBy(table, heading, column));
    heading.replaceChildren(button);
  });
}

// A printed page hides nothing that was folded.
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
