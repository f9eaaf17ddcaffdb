// The table of designs and the figure above it. Both show the rows `order`: what the filters let
// through, sorted. Only rows in view are elements, so 100,000 designs cost as much as 30.
"use strict";
(() => {
  const source = document.getElementById("designs-data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const root = document.getElementById("designs");
  const view = root.querySelector(".designs-view");
  const body = root.querySelector("tbody");
  const figure = document.getElementById(data.figure);
  const tooltip = document.getElementById("designs-tooltip");
  const ARRAYS = {
    u1: Uint8Array, u2: Uint16Array, i2: Int16Array, i4: Int32Array, f4: Float32Array, f8: Float64Array,
  };
  const ROW = 29, SPARE = 8;

  // Columns: numbers in the unit of their field, words as codes.
  function decode(text, Kind) {
    const letters = atob(text), bytes = new Uint8Array(letters.length);
    for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
    return new Kind(bytes.buffer);
  }
  for (const column of data.columns) {
    column.scale = column.scale || 1;
    if (column.data !== undefined) column.values = decode(column.data, ARRAYS[column.dtype]);
    else column.values = new Float64Array(data.count).fill(column.constant);
    column.data = null;
  }
  const byName = Object.fromEntries(data.columns.map(column => [column.name, column]));
  const listed = data.columns.filter(column =>
    column.words ? column.words.length > 1 : column.constant === undefined || ["rows", "cols"].includes(column.name));
  const front = byName.front.values;

  // Numbers as people read them.
  const whole = new Intl.NumberFormat("en-US", {maximumSignificantDigits: 10});
  function digits(value) {
    const size = Math.abs(value);
    if (size >= 100) return value.toLocaleString("en-US", {maximumFractionDigits: 0});
    return size < 1 ? String(Number(value.toPrecision(3))) : value.toFixed(size >= 10 ? 1 : 2);
  }
  function number(column, value) {
    if (Number.isNaN(value) || value === undefined || value === null) return "–";
    return column.estimate ? digits(value / column.scale) : whole.format(value / column.scale);
  }
  function cell(column, row) {
    return column.words ? column.words[column.values[row]] : number(column, column.values[row]);
  }
  const kind = word => word.length === 2 ? word.toUpperCase() : word;
  const label = column => column.unit ? `${column.title} (${column.unit})` : column.title;

  // Filters: ">=16 <64", "8..32", "!=16", "16"; words "os", "=os", "!os".
  function numberTest(text) {
    const tests = [];
    for (const part of text.trim().replace(/(>=|<=|!=|=|>|<)\s+/g, "$1").split(/\s+/)) {
      const range = part.match(/^(.+)\.\.(.+)$/);
      const match = part.match(/^(>=|<=|!=|=|>|<)?(.+)$/);
      const read = word => word.trim() === "" ? NaN : Number(word.replace(/,/g, ""));
      if (range) {
        const low = read(range[1]), high = read(range[2]);
        if (Number.isNaN(low) || Number.isNaN(high)) return null;
        tests.push(value => value >= low && value <= high);
        continue;
      }
      const limit = match ? read(match[2]) : NaN;
      if (Number.isNaN(limit)) return null;
      // What is shown with three digits is looked for with three.
      const alike = (value, rough) => rough ? digits(value) === digits(limit) : value === limit;
      tests.push({
        ">=": value => value >= limit, "<=": value => value <= limit,
        ">": value => value > limit, "<": value => value < limit,
        "!=": (value, rough) => !Number.isNaN(value) && !alike(value, rough),
      }[match[1]] || alike);
    }
    return (value, rough) => tests.every(test => test(value, rough));
  }
  function wordTest(text) {
    const sought = text.trim().toLowerCase();
    if (sought.startsWith("!")) return word => !word.includes(sought.slice(1).replace(/^=/, ""));
    if (sought.startsWith("=")) return word => word === sought.slice(1).trim();
    return word => word.includes(sought);
  }
  function rowTest(column, text) {
    if (column.words) {
      const test = wordTest(text), passes = column.words.map(word => test(word.toLowerCase()));
      return row => passes[column.values[row]];
    }
    const test = numberTest(text);
    if (!test) return null;
    // Exact where the scale is one; a percentage is compared as it is shown.
    const exact = column.scale === 1 && !column.estimate;
    return row => test(exact ? column.values[row] : column.values[row] / column.scale, !exact);
  }

  let order = [], selected = -1, sorted = byName[data.sort], downward = data.sort === "utilization";
  const filters = new Map();

  function arrange() {
    const tests = [...filters.values()].filter(Boolean);
    const kept = new Uint32Array(data.count);
    let count = 0;
    for (let row = 0; row < data.count; row++) {
      if (tests.every(test => test(row))) kept[count++] = row;
    }
    order = kept.slice(0, count);
    if (sorted) {
      const values = sorted.values, sign = downward ? -1 : 1;
      // What is not known comes last either way; equal ones keep their order.
      order.sort((a, b) => {
        const one = values[a], other = values[b];
        if (Number.isNaN(one) || Number.isNaN(other)) return Number.isNaN(one) - Number.isNaN(other) || a - b;
        return sign * (one - other) || a - b;
      });
    }
    const all = data.count.toLocaleString("en-US");
    root.querySelector(".designs-count").textContent = count === data.count
      ? `${all} designs` : `${count.toLocaleString("en-US")} of ${all} designs`;
    view.querySelector("table").setAttribute("aria-rowcount", count + 2);
    view.scrollTop = 0;
    render();
  }

  // Rows in view, between two empty rows as high as all others.
  function spacer(rows) {
    const line = document.createElement("tr"), filler = document.createElement("td");
    line.className = "space";
    line.setAttribute("aria-hidden", "true");
    filler.colSpan = listed.length;
    filler.style.height = `${rows * ROW}px`;
    line.append(filler);
    return line;
  }
  function render() {
    const first = Math.max(0, Math.floor(view.scrollTop / ROW) - SPARE);
    const last = Math.min(order.length, first + Math.ceil(view.clientHeight / ROW) + 2 * SPARE);
    const lines = [spacer(first)];
    for (let place = first; place < last; place++) {
      const row = order[place], line = document.createElement("tr");
      line.dataset.row = row;
      line.tabIndex = 0;
      line.setAttribute("aria-rowindex", place + 3);
      line.setAttribute("aria-selected", row === selected);
      if (front[row]) line.classList.add("member");
      for (const column of listed) {
        const box = document.createElement("td");
        if (!column.words) box.className = "number";
        box.textContent = cell(column, row);
        line.append(box);
      }
      lines.push(line);
    }
    lines.push(spacer(order.length - last));
    const focused = body.contains(document.activeElement) ? document.activeElement.dataset.row : null;
    body.replaceChildren(...lines);
    if (focused) body.querySelector(`tr[data-row="${focused}"]`)?.focus({preventScroll: true});
  }

  // The figure: evaluated designs, the front, the best, the selected one.
  const choice = {x: data.x, y: data.y};
  function ends(column) {
    let low = Infinity, high = 0;
    for (const value of column.values) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    return {log: low > 0 && high >= 10 * low, ratio: high / low};
  }
  function points(rows) {
    const xs = byName[choice.x], ys = byName[choice.y];
    const x = new Float64Array(rows.length), y = new Float64Array(rows.length);
    rows.forEach((row, i) => { x[i] = xs.values[row] / xs.scale; y[i] = ys.values[row] / ys.scale; });
    return {x, y};
  }
  function scene() {
    const kept = Array.from(order);
    const others = kept.filter(row => !front[row]), members = kept.filter(row => front[row]);
    const xs = byName[choice.x].values;
    members.sort((a, b) => xs[a] - xs[b]);
    const best = ["x", "y"].map(axis => {
      const column = byName[choice[axis]], value = data.best[column.name];
      return value === undefined ? [] : [value / column.scale];
    });
    const chosen = selected < 0 ? [] : [selected];
    return {
      rows: [others, members, [-1], chosen],
      places: [points(others), points(members), {x: best[0], y: best[1]}, points(chosen)],
    };
  }
  function draw() {
    const {rows, places} = scene();
    const named = choice.x === data.x && choice.y === data.y;
    const stairs = named && data.stairs && rows[1].length <= 2000;
    const update = {
      x: places.map(place => place.x),
      y: places.map(place => place.y),
      customdata: rows,
      name: [`evaluated (${rows[0].length.toLocaleString("en-US")})`, `front (${rows[1].length.toLocaleString("en-US")})`,
             figure.data[2].name, "selected"],
      mode: ["markers", stairs ? "lines+markers" : "markers", "markers", "markers"],
    };
    const layout = {};
    for (const axis of ["x", "y"]) {
      const column = byName[choice[axis]];
      layout[`${axis}axis.title.text`] = label(column);
      const {log, ratio} = ends(column);
      layout[`${axis}axis.type`] = log ? "log" : "linear";
      layout[`${axis}axis.dtick`] = log ? (ratio < 3000 ? "D2" : 1) : null;
      layout[`${axis}axis.autorange`] = true;
    }
    Plotly.update(figure, update, layout);
    if (data.colour) {
      const column = byName[data.colour];
      const colours = Float64Array.from(rows[1], row => column.values[row] / column.scale);
      Plotly.restyle(figure, {"marker.color": [colours]}, [1]);
    }
  }
  function mark(row) {
    selected = row;
    const place = points([row]);
    Plotly.restyle(figure, {x: [place.x], y: [place.y], customdata: [[row]]}, [3]);
    render();
  }

  function tell(row) {
    const value = column => row < 0 ? data.best[column.name] : column.values[row];
    const word = column => row < 0 ? value(column) : column.words[value(column)];
    const lines = [`${value(byName.rows)}×${value(byName.cols)} ${kind(String(word(byName.dataflow)))}`];
    for (const column of data.columns) {
      if (["rows", "cols", "dataflow", "front"].includes(column.name) || value(column) === undefined) continue;
      const unit = column.unit ? ` ${column.unit}` : "";
      lines.push(`${column.title}: ${number(column, value(column))}${unit}`);
    }
    return lines.join("\n");
  }
  function point(event) {
    const row = event.points[0].customdata;
    tooltip.textContent = tell(Array.isArray(row) ? row[0] : row);
    tooltip.hidden = false;
    const box = tooltip.getBoundingClientRect(), at = event.event;
    const left = at.clientX + 14 + box.width > innerWidth ? at.clientX - 14 - box.width : at.clientX + 14;
    const top = Math.min(at.clientY + 14, innerHeight - box.height - 6);
    tooltip.style.left = `${Math.max(4, Math.min(left, innerWidth - box.width - 4))}px`;
    tooltip.style.top = `${Math.max(4, top)}px`;
  }

  // Headings, filters, buttons.
  let waiting = 0;
  function later() {
    clearTimeout(waiting);
    waiting = setTimeout(() => { arrange(); draw(); }, 120);
  }
  function heading(column) {
    const place = document.createElement("th"), button = document.createElement("button");
    place.setAttribute("aria-sort", column !== sorted ? "none" : downward ? "descending" : "ascending");
    place.scope = "col";
    if (!column.words) place.className = "number";
    button.type = "button";
    button.textContent = label(column);
    button.addEventListener("click", () => {
      downward = sorted === column && !downward;
      sorted = column;
      place.parentElement.querySelectorAll("th").forEach(other => other.setAttribute("aria-sort", "none"));
      place.setAttribute("aria-sort", downward ? "descending" : "ascending");
      arrange();
    });
    place.append(button);
    return place;
  }
  function filterBox(column) {
    const place = document.createElement("th"), input = document.createElement("input");
    input.type = "text";
    input.spellcheck = false;
    input.placeholder = column.words ? "text" : ">=";
    input.setAttribute("aria-label", `filter ${label(column)}`);
    input.dataset.column = column.name;
    input.addEventListener("input", () => {
      const test = input.value.trim() ? rowTest(column, input.value) : undefined;
      input.setAttribute("aria-invalid", test === null);
      filters.set(column.name, test || null);
      later();
    });
    place.append(input);
    return place;
  }
  function quoted(text) {
    return /[",\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
  }
  function csv() {
    const raw = (column, row) => {
      if (column.words) return quoted(column.words[column.values[row]]);
      const value = column.values[row];
      if (Number.isNaN(value)) return "";
      return String(column.dtype === "f4" ? Number(value.toPrecision(7)) : value);
    };
    const lines = [data.columns.map(column => column.name).join(",")];
    for (const row of order) lines.push(data.columns.map(column => raw(column, row)).join(","));
    return lines.join("\n") + "\n";
  }
  function download() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv()], {type: "text/csv"}));
    link.download = data.file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  root.querySelector(".designs-names").append(...listed.map(heading));
  root.querySelector(".designs-filters").append(...listed.map(filterBox));
  for (const axis of ["x", "y"]) {
    const select = document.getElementById(`designs-${axis}`);
    const names = data.axes.some(each => each.name === choice[axis])
      ? data.axes : [{name: choice[axis], label: label(byName[choice[axis]])}, ...data.axes];
    for (const each of names) select.add(new Option(each.label, each.name, false, each.name === choice[axis]));
    select.addEventListener("change", () => { choice[axis] = select.value; draw(); });
  }
  document.getElementById("designs-clear").addEventListener("click", () => {
    filters.clear();
    root.querySelectorAll(".designs-filters input").forEach(input => {
      input.value = "";
      input.removeAttribute("aria-invalid");
    });
    arrange();
    draw();
  });
  document.getElementById("designs-csv").addEventListener("click", download);
  view.addEventListener("scroll", () => requestAnimationFrame(render), {passive: true});
  const rowAt = event => event.target.closest("tr[data-row]");
  body.addEventListener("click", event => { const line = rowAt(event); if (line) mark(Number(line.dataset.row)); });
  body.addEventListener("keydown", event => {
    const line = rowAt(event);
    if (!line) return;
    const next = {ArrowDown: line.nextElementSibling, ArrowUp: line.previousElementSibling}[event.key];
    if (event.key === "Enter" || event.key === " ") mark(Number(line.dataset.row));
    else if (next && next.dataset.row) next.focus();
    else return;
    event.preventDefault();
  });
  arrange();
  draw();
  figure.on("plotly_hover", point);
  figure.on("plotly_unhover", () => { tooltip.hidden = true; });
  figure.on("plotly_click", event => {
    const row = [event.points[0].customdata].flat()[0];
    if (row < 0) return;
    const place = order.indexOf(row);
    if (place >= 0) view.scrollTop = Math.max(0, place - 4) * ROW;
    mark(row);
  });
})();
