// The front page's table: sort, filter, columns, budget, compare. The state lives in the address, after the #.
(() => {
  "use strict";
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const table = $("board"), body = table.tBodies[0];
  const rows = data.rows.map((row, i) => ({ ...row, at: i, tr: body.rows[i], pick: body.rows[i].querySelector(".pick") }));
  const AT_ONCE = 100; // rows drawn before a reader asks for all: a browser takes seconds to lay out thousands
  const byId = new Map(rows.map((row) => [row.id, row]));
  const headings = [...table.tHead.rows[1].cells];
  const hiding = document.head.appendChild(document.createElement("style"));
  const start = { sort: "", q: "", deployment: "", tier: "", fit: "", mb: String(data.budget.mb), ms: String(data.budget.ms), columns: data.shown.join(","), compare: "", open: "", all: "" };
  let state = { ...start };

  // the address
  const read = () => {
    const given = new URLSearchParams(location.hash.slice(1));
    state = Object.fromEntries(Object.entries(start).map(([key, value]) => [key, given.get(key) ?? value]));
  };
  const write = () => {
    const changed = Object.entries(state).filter(([key, value]) => value !== start[key]);
    history.replaceState(null, "", "#" + new URLSearchParams(changed));
  };
  const set = (change) => { Object.assign(state, change); write(); draw(); };

  // reading the table
  const cell = (row, key) => row.tr.querySelector(`[data-col="${CSS.escape(key)}"]`);
  const text = (row, key) => cell(row, key).querySelector("b")?.textContent ?? "–";
  const value = (row, key) => key === "method" ? `${row.method} ${row.deployment}` : key === "rank" ? row.rank : row.values[key];
  const name = (row) => `${row.method}, ${row.deployment}`;
  const fits = (row) => row.values.mb <= Number(state.mb) && row.values.p50 <= Number(state.ms) && row.values.score !== undefined;
  const sign = (a, b) => data.verdicts ? data.verdicts[a.at][b.at] : "?";

  const kept = (row) => {
    const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
    return words.every((word) => row.text.includes(word))
      && (!state.deployment || row.deployment === state.deployment)
      && (!state.tier || row.tier === state.tier)
      && (!state.fit || fits(row));
  };

  const drawTable = () => {
    const key = state.sort.replace(/^-/, ""), down = state.sort.startsWith("-") ? -1 : 1;
    const known = headings.some((th) => th.dataset.col === key);
    const order = known ? [...rows].sort((a, b) => {
      const x = value(a, key), y = value(b, key);
      if (x == null || y == null) return (x == null) - (y == null) || a.at - b.at; // what is missing comes last, either way
      return (typeof x === "string" ? x.localeCompare(y) : x - y) * down || a.at - b.at;
    }) : rows;
    const shown = order.filter(kept);
    const drawn = state.all ? shown : shown.slice(0, AT_ONCE);
    body.replaceChildren(...drawn.map((row) => row.tr));
    $("more").hidden = drawn.length === shown.length;
    $("more").textContent = `Show all ${shown.length} rows`;
    for (const th of headings) {
      if (known && th.dataset.col === key) th.setAttribute("aria-sort", down < 0 ? "descending" : "ascending");
      else th.removeAttribute("aria-sort");
    }
    $("count").textContent = shown.length === rows.length ? `${rows.length} rows` : `${shown.length} of ${rows.length} rows`;
  };

  const drawColumns = () => {
    const shown = new Set(state.columns.split(","));
    const keys = headings.map((th) => th.dataset.col).filter((key) => key !== "rank" && key !== "method");
    const rules = keys.filter((key) => !shown.has(key)).map((key) => `#board [data-col="${CSS.escape(key)}"]{display:none}`).join("");
    if (hiding.textContent === rules) return;
    hiding.textContent = rules;
    for (const th of table.querySelectorAll("[data-group]")) {
      const span = th.dataset.group.split(" ").filter((key) => shown.has(key)).length;
      th.hidden = !span;
      th.colSpan = span || 1;
    }
    for (const box of $("columns").querySelectorAll("input")) box.checked = shown.has(box.value);
  };

  const drawBudget = () => {
    const fit = rows.filter(fits).sort((a, b) => b.values.score - a.values.score);
    const answer = $("answer"), because = $("because");
    if (!fit.length) {
      answer.replaceChildren(Object.assign(document.createElement("span"), { className: "nothing", textContent: "Nothing fits." }));
      because.textContent = "Raise a limit: no row is known to be within both.";
      return;
    }
    const equal = fit.filter((row) => row === fit[0] || sign(fit[0], row) === "=");
    const best = equal.reduce((least, row) => (row.values.mb < least.values.mb ? row : least));
    const tied = fit.filter((row) => row !== best && "=?".includes(sign(best, row)));
    const link = Object.assign(document.createElement("a"), { id: "best", href: `methods/${best.method}.html`, textContent: best.method });
    const form = Object.assign(document.createElement("span"), { id: "best-form", className: "form", textContent: best.deployment });
    answer.replaceChildren(link, " ", form);
    const words = best.said
      + (data.verdicts && tied.length ? ` Not told apart in score: ${tied.slice(0, 3).map(name).join(", ")}.` : "")
      + ` ${fit.length} of ${rows.length} rows fit. `;
    because.replaceChildren(words, make("a", "Make it", { href: `methods/${best.method}.html#again` }));
  };

  // side by side
  const picked = () => state.compare.split(",").map((id) => byId.get(id)).filter(Boolean).slice(0, 4);
  const speedWords = { ">": "faster than", "<": "slower than", "=": "as fast as", "?": "not compared in speed with" };
  const words = { ">": "better than", "<": "worse than", "=": "tied with", "?": "not testable against (the exam is too small)" };
  const make = (tag, content, more) => { const e = Object.assign(document.createElement(tag), more); e.append(...[content].flat()); return e; };
  const drawComparison = () => {
    const chosen = picked();
    for (const row of rows) row.pick.checked = chosen.includes(row);
    $("chosen").textContent = chosen.length;
    $("compare").disabled = chosen.length < 2;
    const dialog = $("comparison");
    if (state.open && chosen.length >= 2) {
      $("comparison-body").replaceChildren(sideBySide(chosen));
      const pairs = chosen.flatMap((a, i) => chosen.slice(i + 1).map((b) => `${name(a)} is ${words[sign(a, b)]} ${name(b)}`));
      const speeds = chosen.flatMap((a, i) => chosen.slice(i + 1).map((b) => `${name(a)} is ${speedWords[data.speeds?.[a.at][b.at]]} ${name(b)}`));
      $("verdict").textContent = data.verdicts ? `In score: ${pairs.join("; ")}. In speed: ${speeds.join("; ")}.` : "";
      if (!dialog.open) dialog.showModal();
    } else if (dialog.open) dialog.close();
  };
  // the best of a line: where a verdict is known, only who is better than each of the others; of a task alone, no one
  const told = {
    score: data.verdicts, gap: data.verdicts, kept: data.verdicts,
    faster: data.speeds, faster_int8: data.speeds, p50: data.speeds,
  };
  const leads = (row, key, others, better) => {
    if (key in told) return others.every((other) => told[key]?.[row.at][other.at] === ">");
    const behind = (other) => better === "high" ? other.values[key] < row.values[key] : other.values[key] > row.values[key];
    return !key.startsWith("task-") && others.every((other) => other.values[key] == null || behind(other)) && others.some((other) => other.values[key] != null);
  };
  const sideBySide = (chosen) => {
    const head = make("thead", make("tr", [make("th", "", { scope: "col" }), ...chosen.map((row) => make("th", [row.method, make("small", row.deployment)], { scope: "col" }))]));
    head.rows[0].cells[0].append(make("span", "Figure", { className: "vh" }));
    const lines = [];
    for (const group of table.querySelectorAll("[data-group]")) {
      lines.push(make("tr", make("th", group.textContent, { scope: "rowgroup", colSpan: chosen.length + 1 }), { className: "group" }));
      for (const key of group.dataset.group.split(" ")) {
        const th = headings.find((h) => h.dataset.col === key);
        const cells = chosen.map((row) => {
          const copy = cell(row, key).cloneNode(true);
          copy.removeAttribute("data-col");
          if (row.values[key] != null && leads(row, key, chosen.filter((other) => other !== row), th.dataset.better)) copy.classList.add("win");
          return copy;
        });
        const label = `${th.querySelector("span, .sort").textContent}, ${th.querySelector("small").textContent}`;
        lines.push(make("tr", [make("th", label, { scope: "row" }), ...cells]));
      }
    }
    return make("table", [head, make("tbody", lines)]);
  };

  const draw = () => { drawInputs(); drawColumns(); drawTable(); drawBudget(); drawComparison(); };
  const drawInputs = () => {
    for (const key of ["q", "deployment", "tier", "mb", "ms"]) if ($(key).value !== state[key]) $(key).value = state[key];
    $("fit").checked = Boolean(state.fit);
  };

  // tips: the glossary's words, at the heading
  const tip = make("div", "", { className: "tip", hidden: true });
  document.body.append(tip);
  const showTip = (th) => {
    const means = $(th.getAttribute("aria-describedby"));
    if (!means) return;
    tip.textContent = means.textContent;
    tip.hidden = false;
    const box = th.getBoundingClientRect();
    tip.style.left = `${Math.max(8, Math.min(box.left, innerWidth - tip.offsetWidth - 8)) + scrollX}px`;
    tip.style.top = `${Math.max(4, box.top - tip.offsetHeight - 6) + scrollY}px`;
  };
  const hideTip = () => { tip.hidden = true; };

  for (const th of headings) {
    const label = th.querySelector("span"), button = make("button", label.textContent, { type: "button", className: "sort" });
    if (th.hasAttribute("aria-describedby")) button.setAttribute("aria-describedby", th.getAttribute("aria-describedby"));
    label.replaceWith(button);
    button.addEventListener("click", () => {
      const first = th.dataset.better === "high" ? "-" : "";
      const key = th.dataset.col, other = (first ? "" : "-") + key;
      set({ sort: state.sort === first + key ? other : state.sort === other ? "" : first + key });
    });
    th.addEventListener("pointerenter", () => showTip(th));
    th.addEventListener("pointerleave", hideTip);
    button.addEventListener("focus", () => showTip(th));
    button.addEventListener("blur", hideTip);
  }
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    hideTip();
    $("columns").open = false;
  });
  document.addEventListener("click", (event) => { if (!$("columns").contains(event.target)) $("columns").open = false; });

  for (const key of ["q", "mb", "ms"]) $(key).addEventListener("input", (event) => set({ [key]: event.target.value }));
  for (const key of ["deployment", "tier"]) $(key).addEventListener("change", (event) => set({ [key]: event.target.value }));
  $("fit").addEventListener("change", (event) => set({ fit: event.target.checked ? "1" : "" }));
  $("columns").addEventListener("change", () => set({ columns: [...$("columns").querySelectorAll("input:checked")].map((box) => box.value).join(",") }));
  $("more").addEventListener("click", () => set({ all: "1" }));
  $("reset").addEventListener("click", () => set({ ...start }));
  $("compare").addEventListener("click", () => set({ open: "1" }));
  $("close").addEventListener("click", () => $("comparison").close());
  $("comparison").addEventListener("close", () => set({ open: "" }));
  for (const id of ["budget", "controls"]) $(id).addEventListener("submit", (event) => event.preventDefault());
  body.addEventListener("change", (event) => {
    if (!event.target.matches(".pick")) return;
    const id = event.target.closest("tr").dataset.row, before = state.compare.split(",").filter(Boolean);
    set({ compare: (event.target.checked ? [...before, id].slice(-4) : before.filter((one) => one !== id)).join(",") });
  });
  let pointed = null; // the row under the pointer: its points light up, and the rows it is not told apart from are marked
  const around = (tr) => {
    if (tr === pointed) return;
    for (const lit of document.querySelectorAll(".point.lit, tr.tied, tr.unsure")) lit.classList.remove("lit", "tied", "unsure");
    pointed = tr;
    const row = tr && byId.get(tr.dataset.row);
    if (!row) return;
    for (const point of document.querySelectorAll(`.point[data-row="${CSS.escape(row.id)}"]`)) point.classList.add("lit");
    for (const other of data.verdicts ? rows : []) {
      const how = other === row ? "" : { "=": "tied", "?": "unsure" }[sign(row, other)];
      if (how) other.tr.classList.add(how);
    }
  };
  body.addEventListener("pointerover", (event) => around(event.target.closest("tr")));
  body.addEventListener("pointerleave", () => around(null));
  addEventListener("hashchange", () => { read(); draw(); });

  $("mb").readOnly = $("ms").readOnly = false;
  read();
  draw();
})();
