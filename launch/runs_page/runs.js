"use strict";
// Compares two runs; everything else on the page is there without it.
const runs = JSON.parse(document.getElementById("data").textContent);
const target = document.getElementById("compared");
const chosen = ["a", "b"].map(side => document.getElementById(`run-${side}`));
const equal = document.getElementById("equal");
const LESS_IS_BETTER = /^(loss|calibration_error)/;

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  Object.assign(made, attributes);
  return made;
}

function shown(value) {
  if (value === undefined || value === "") return "–";
  return typeof value === "number" && !Number.isInteger(value) ? value.toFixed(value < 10 ? 4 : 1) : String(value);
}

function named(name) {
  const words = name.replaceAll("_", " ").replace("f1", "F1").replace("roc auc", "ROC AUC");
  return words[0].toUpperCase() + words.slice(1);
}

function compare() {
  const [a, b] = chosen.map(select => runs[select.value].groups);
  const body = document.createElement("tbody");
  for (const group of Object.keys(a)) {
    const names = [...new Set([...Object.keys(a[group]), ...Object.keys(b[group])])];
    const differing = names.filter(name => equal.checked || group === "Metrics" || a[group][name] !== b[group][name]);
    if (!differing.length) continue;
    const heading = body.insertRow();
    heading.className = "group";
    heading.append(element("th", group, { colSpan: 3, scope: "colgroup" }));
    for (const name of differing) {
      const values = [a[group][name], b[group][name]];
      const row = body.insertRow();
      row.append(element("th", group === "Metrics" ? named(name) : name, { scope: "row" }));
      const best = group === "Metrics" && values[0] !== values[1] && values.every(value => typeof value === "number")
        ? (LESS_IS_BETTER.test(name) ? Math.min : Math.max)(...values) : null;
      for (const value of values) row.append(element("td", shown(value), { className: value === best ? "better" : "" }));
    }
  }
  const table = document.createElement("table");
  table.className = "compared";
  const head = table.createTHead().insertRow();
  head.append(element("td", ""), ...chosen.map(select => element("th", select.selectedOptions[0].textContent.trim(), { scope: "col" })));
  table.append(body);
  target.replaceChildren(body.rows.length ? table : element("p", "Nothing differs."));
}

if (target) {
  for (const input of [...chosen, equal]) input.addEventListener("change", compare);
  compare();
}
