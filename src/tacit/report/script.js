"use strict";
(() => {
  const tip = document.getElementById("tip");
  const words = document.getElementById("tiptext");
  const thumb = document.getElementById("thumb");

  const place = (x, y) => {
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const left = x + 16 + box.width > innerWidth ? x - 16 - box.width : x + 16;
    const top = y + 16 + box.height > innerHeight ? y - 16 - box.height : y + 16;
    tip.style.left = Math.max(8, Math.min(left, innerWidth - box.width - 8)) + "px";
    tip.style.top = Math.max(8, top) + "px";
  };
  const hide = () => { tip.hidden = true; };

  // Charts and gallery: whatever carries data-tip says it, to a mouse as to a finger.
  const point = (event) => {
    if (event.target.closest("#map")) return;
    const owner = event.target.closest("[data-tip]");
    if (!owner || !owner.dataset.tip) return hide();
    thumb.hidden = true;
    words.textContent = owner.dataset.tip;
    place(event.clientX, event.clientY);
  };
  document.addEventListener("pointermove", point);
  document.addEventListener("pointerdown", point);
  addEventListener("scroll", hide, { passive: true });

  const map = document.getElementById("map");
  if (!map) return;
  const data = JSON.parse(document.getElementById("mapdata").textContent);
  const svg = map.querySelector("svg");
  const ring = svg.querySelector(".ring");
  let only = null;

  const nearest = (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
    let best = -1, least = 30 * 30;
    data.xy.forEach(([x, y], i) => {
      const distance = (x - at.x) ** 2 + (y - at.y) ** 2;
      if (distance < least && (only === null || data.group[i] === only)) { least = distance; best = i; }
    });
    return best;
  };
  const look = (event) => {
    const i = nearest(event);
    ring.style.display = i < 0 ? "none" : "inline";
    if (i < 0) return hide();
    ring.setAttribute("cx", data.xy[i][0]);
    ring.setAttribute("cy", data.xy[i][1]);
    thumb.hidden = data.columns === 0;
    if (data.columns) {
      const share = (k, n) => (n > 1 ? (100 * k) / (n - 1) : 0) + "%";
      thumb.style.backgroundPosition =
        share(i % data.columns, data.columns) + " " + share(Math.floor(i / data.columns), data.rows);
    }
    const label = data.group[i] < 0 ? "no label" : data.label[i] || data.names[data.group[i]];
    words.textContent = [data.names.length ? label : "", data.ids[i] || "", data.texts[i] || ""].filter(Boolean).join("\n");
    place(event.clientX, event.clientY);
  };
  map.addEventListener("pointermove", look);
  map.addEventListener("pointerdown", look);
  map.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hide(); });

  // The legend shows one class alone.
  const buttons = [...document.querySelectorAll(".legend button")];
  buttons.forEach((button) => button.addEventListener("click", () => {
    const group = Number(button.dataset.group);
    only = only === group ? null : group;
    buttons.forEach((other) => other.setAttribute("aria-pressed", String(Number(other.dataset.group) === only)));
    svg.querySelectorAll(".points").forEach((path) =>
      path.classList.toggle("dim", only !== null && Number(path.dataset.group) !== only));
  }));
})();
