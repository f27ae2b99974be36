// On every page: the theme, and pictures that answer to the pointer and to the keyboard.
(() => {
  "use strict";
  const root = document.documentElement;
  const remember = (value) => { try { value === undefined || localStorage.setItem("theme", value); return localStorage.getItem("theme"); } catch { return null; } };
  if (remember()) root.dataset.theme = remember();
  document.getElementById("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    remember(root.dataset.theme);
  });

  const note = document.getElementById("note");
  const light = (point, on) => {
    for (const mark of document.querySelectorAll(`[data-row="${CSS.escape(point.dataset.row)}"]`)) mark.classList.toggle("lit", on);
    const by = point.dataset.by && point.closest("svg").querySelector(`[data-row="${CSS.escape(point.dataset.by)}"]`);
    if (by) by.classList.toggle("by", on);
    if (note && on) note.textContent = point.getAttribute("aria-label");
  };
  for (const svg of document.querySelectorAll(".plot svg")) {
    const points = [...svg.querySelectorAll(".point")].sort((a, b) => a.getBBox().x - b.getBBox().x);
    points.forEach((point, i) => {
      point.setAttribute("tabindex", i ? "-1" : "0"); // one stop a picture; the arrows walk within it
      point.querySelector("title").remove(); // the note below says it, and at once
      point.addEventListener("pointerenter", () => light(point, true));
      point.addEventListener("pointerleave", () => light(point, false));
      point.addEventListener("focus", () => light(point, true));
      point.addEventListener("blur", () => light(point, false));
      point.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        if (!step) return;
        event.preventDefault();
        points[(i + step + points.length) % points.length].focus();
      });
    });
  }
})();
