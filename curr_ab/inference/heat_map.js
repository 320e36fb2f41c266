const data = JSON.parse(document.getElementById("data").textContent);
const cell = 11, left = 18, top_ = 4, bottom = 18;
function colour(value) {
  const share = Math.max(-1, Math.min(1, value / data.limit)), end = share < 0 ? [178, 24, 43] : [33, 102, 172];
  return "rgb(" + end.map(c => Math.round(255 + (c - 255) * Math.abs(share))).join(",") + ")";
}
const ink = getComputedStyle(document.body).color;
for (const chain of ["heavy", "light"]) {
  const sites = data.sites.filter(site => site.chain === chain);
  if (!sites.length) continue;
  const heading = document.createElement("h2"), box = document.createElement("div"), canvas = document.createElement("canvas");
  heading.textContent = chain + " chain";
  box.className = "map";
  canvas.width = left + cell * sites.length + 24;
  canvas.height = top_ + cell * data.rows.length + bottom;
  box.append(canvas);
  document.getElementById("maps").append(heading, box);
  const draw = canvas.getContext("2d");
  draw.font = "9px system-ui, sans-serif";
  draw.fillStyle = ink;
  [...data.rows].forEach((letter, row) => draw.fillText(letter, 4, top_ + cell * row + 9));
  sites.forEach((site, column) => {
    const x = left + cell * column;
    site.odds.forEach((value, row) => {
      const y = top_ + cell * row;
      draw.fillStyle = colour(value);
      draw.fillRect(x, y, cell - 1, cell - 1);
      if (data.rows[row] === site.wt) {
        draw.fillStyle = "#000";
        draw.fillRect(x + 4, y + 4, 3, 3);
      }
    });
    draw.fillStyle = ink;
    if (site.at % 10 === 0) draw.fillText(site.wt + site.at, x - 3, canvas.height - 5);
  });
  // The page's own script shows what `data-tip` says; this one says what is under the pointer.
  for (const name of ["pointermove", "pointerdown"]) canvas.addEventListener(name, event => {
    const box = canvas.getBoundingClientRect();
    const site = sites[Math.floor((event.clientX - box.left - left) / cell)];
    const row = Math.floor((event.clientY - box.top - top_) / cell);
    if (!site || row < 0 || row >= data.rows.length) { delete canvas.dataset.tip; return; }
    canvas.dataset.tip = `${chain} ${site.wt}${site.at}${data.rows[row]}` + (site.label ? ` (${site.label})` : "") + `: ${site.odds[row]}`;
  });
}
