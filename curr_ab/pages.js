const tip = document.getElementById("tip");
function show(event) {
  const mark = event.target.closest("[data-tip]");
  tip.hidden = !mark;
  if (!mark) return;
  tip.textContent = mark.dataset.tip;
  const edge = 8, box = tip.getBoundingClientRect();
  const x = Math.max(edge, Math.min(event.clientX + 14, innerWidth - box.width - edge));
  const above = event.clientY + 18 + box.height > innerHeight - edge;
  tip.style.left = x + "px";
  tip.style.top = (above ? event.clientY - box.height - 12 : event.clientY + 18) + "px";
}
addEventListener("pointermove", show);
addEventListener("pointerdown", show);
addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(box => { box.open = true; }));
