// The carbon page: another country or volume, the same kilowatt-hours.
(() => {
  "use strict";
  const $ = (id) => document.getElementById(id);
  const { lines } = JSON.parse($("data").textContent);
  const write = (value) => value.toLocaleString("en", { minimumSignificantDigits: 3, maximumSignificantDigits: 3 });
  const picture = $("totals");
  const options = [...$("country").options];

  const draw = () => {
    const grid = Number($("country").value), volume = Math.max(Number($("volume").value) || 0, 0);
    for (const line of lines) {
      const tr = document.querySelector(`#carbon [data-row="${CSS.escape(line.id)}"]`);
      const put = (column, value) => {
        const cell = tr.querySelector(`[data-col="${column}"]`);
        const tilde = cell.dataset.tilde ??= cell.textContent.startsWith("~") ? "~" : "";
        if (value !== null) cell.textContent = tilde + write(value);
      };
      put("making", line.making ? line.making * grid : null);
      put("year", line.use * volume * 365 * grid / 1000);
      put("days", line.break_even !== null && volume ? line.break_even / volume : null);
    }
    if (picture) $("moved").setAttribute("transform", `translate(0 ${-Math.log10(grid / Number(picture.dataset.grid)) * Number(picture.dataset.decade)})`);
    const chosen = $("country").selectedOptions[0];
    $("where-now").textContent = `Shown for ${chosen.textContent} and ${volume.toLocaleString("en")} inferences a day.`;
    const state = new URLSearchParams();
    if (chosen.dataset.iso) state.set("country", chosen.dataset.iso);
    if ($("volume").value !== $("volume").defaultValue) state.set("volume", $("volume").value);
    history.replaceState(null, "", "#" + state);
  };
  const read = () => {
    const given = new URLSearchParams(location.hash.slice(1));
    $("country").selectedIndex = Math.max(0, options.findIndex((option) => option.dataset.iso === (given.get("country") ?? "")));
    $("volume").value = Number(given.get("volume")) || $("volume").defaultValue;
  };
  $("where").addEventListener("input", draw);
  $("where").addEventListener("submit", (event) => event.preventDefault());
  addEventListener("hashchange", () => { read(); draw(); });
  read();
  draw();
})();
