"use strict";
// Draw the charts again, now with tooltips and a legend that can be clicked. Where that fails, the drawn pictures stay.
for (const drawing of window.vegaEmbed ? document.querySelectorAll("[data-chart]") : []) {
  const description = JSON.parse(document.getElementById(drawing.dataset.chart).textContent);
  const wide = drawing.clientWidth >= 600;
  if ("small" in drawing.dataset) {
    description.columns = Math.max(1, Math.min(description.columns, Math.floor(drawing.clientWidth / 205)));
  } else {
    description.width = "container";
    description.height = wide ? 360 : 300;
    if (!wide) description.config.legend.columns = 3;
  }
  const live = document.createElement("div");
  live.className = "vega";
  drawing.append(live);
  window.vegaEmbed(live, description, {
    renderer: "svg",
    ast: true, // expressions are interpreted: the page's policy allows no code from text
    actions: { export: true, source: false, compiled: false, editor: false },
    downloadFileName: drawing.dataset.name,
  }).then(
    () => drawing.closest("figure").classList.add("is-live"),
    () => live.remove(),
  );
}

// Sort a table by a column: numbers before words, empty cells last.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
      const order = (a, b) => {
        const [one, two] = [key(a), key(b)];
        if (one === "" || two === "") return (one === "") - (two === "");
        const plain = isNaN(one) || isNaN(two) ? one.localeCompare(two, "en", { numeric: true }) : one - two;
        return up ? plain : -plain;
      };
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order));
    });
  });
}
