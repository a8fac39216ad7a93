const ALL = [
  ["run", "run"], ["state", "state"], ["variant", "variant"], ["settings", "settings"], ["seed", "seed", 0],
  ["validation", "validation", 2], ["test", "test", 2], ["best_step", "best step", 0], ["hours", "hours", 2],
  ["asked_hours", "asked hours", 2], ["memory", "peak GiB", 1], ["asked_memory", "asked GB", 0],
  ["attempts", "attempts", 0], ["detail", "detail"],
];
const FIRST = 200;
const runs = JSON.parse(document.getElementById("run-data").textContent);
const isEmpty = (value) => value === null || value === undefined || value === "";
const COLUMNS = ALL.filter(([key]) => runs.some((run) => !isEmpty(run[key])));
const text = (value, digits) =>
  isEmpty(value) ? "–" : digits === undefined ? String(value) : value.toFixed(digits);
for (const run of runs) run.words = COLUMNS.map(([key, , digits]) => text(run[key], digits)).join(" ").toLowerCase();
let order = { key: null, up: true }, showAll = false;

function shownRuns() {
  const words = document.getElementById("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = runs.filter((run) => words.every((word) => run.words.includes(word)));
  if (order.key === null) return found;
  const { key, up } = order;
  // What is missing stands last, whichever way.
  return found.sort((a, b) => {
    const [x, y] = [a[key], b[key]];
    if (isEmpty(x)) return isEmpty(y) ? 0 : 1;
    if (isEmpty(y)) return -1;
    const difference = typeof x === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true });
    return up ? difference : -difference;
  });
}

function draw() {
  const found = shownRuns(), shown = showAll ? found : found.slice(0, FIRST);
  const body = document.createElement("tbody");
  for (const run of shown) {
    const row = body.insertRow();
    for (const [key, , digits] of COLUMNS) {
      const cell = row.insertCell();
      if (digits !== undefined) cell.className = "number";
      if (key === "run" && run.log) {
        const link = document.createElement("a");
        link.href = run.log.split("/").map(encodeURIComponent).join("/");
        link.textContent = run.run;
        link.title = "log of its last attempt";
        cell.append(link);
      } else cell.textContent = text(run[key], digits);
    }
  }
  document.querySelector("#run-table tbody").replaceWith(body);
  document.getElementById("shown").textContent = `${shown.length} of ${runs.length} runs`;
  document.getElementById("more").hidden = shown.length === found.length;
}

const head = document.querySelector("#run-table thead tr");
for (const [key, name, digits] of COLUMNS) {
  const cell = document.createElement("th"), button = document.createElement("button");
  cell.scope = "col";
  if (digits !== undefined) cell.className = "number";
  button.type = "button";
  button.textContent = name;
  button.onclick = () => {
    order = { key, up: order.key === key ? !order.up : digits === undefined };
    for (const other of head.cells) other.removeAttribute("aria-sort");
    cell.setAttribute("aria-sort", order.up ? "ascending" : "descending");
    draw();
  };
  cell.append(button);
  head.append(cell);
}
document.getElementById("filter").oninput = draw;
document.getElementById("more").onclick = () => { showAll = true; draw(); };
draw();

const age = document.getElementById("age");
const tellAge = () => {
  const minutes = Math.max(0, Math.floor(Date.now() / 60000 - age.dataset.at / 60));
  const told = minutes < 120 ? `${minutes} min` : minutes < 2880 ? `${Math.floor(minutes / 60)} h` : `${Math.floor(minutes / 1440)} days`;
  age.textContent = `, ${told} ago`;
};
tellAge();
setInterval(tellAge, 30000);

const figures = document.getElementById("figure-data");
if (figures) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const specs = JSON.parse(figures.textContent);
  const drawFigures = () => {
    const ink = dark.matches ? "#e4e8ee" : "#1d2430", line = dark.matches ? "#39424f" : "#d5dae2";
    const axis = { labelColor: ink, titleColor: ink, gridColor: line, domainColor: line, tickColor: line };
    specs.forEach((spec, index) => {
      // Two columns of names are cut off on a narrow page.
      const columns = document.getElementById(`chart-${index}`).clientWidth < 340 ? 1 : 2;
      const legend = { labelColor: ink, titleColor: ink, columns };
      const config = { background: "transparent", axis, legend, view: { stroke: line }, text: { color: ink } };
      window.vegaEmbed(`#chart-${index}`, { ...spec, config: { ...spec.config, ...config } }, { actions: false, renderer: "svg" })
        .catch((error) => { document.getElementById(`chart-${index}`).textContent = `This figure cannot be drawn: ${error.message}`; });
    });
  };
  dark.addEventListener("change", drawFigures);
  drawFigures();
}
