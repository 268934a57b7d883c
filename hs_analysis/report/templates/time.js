"use strict";
// One time window for all charts over time: chosen by dragging on one, by its two fields, or by the link.
const timeWindow = (() => {
  const views = new Map();  // element of a drawn chart -> { view, whole: [first, last] in milliseconds }
  const bar = document.getElementById("window");
  const fields = bar ? { from: bar.querySelector("[name=from]"), to: bar.querySelector("[name=to]") } : {};
  let chosen = { from: null, to: null }, target = "", opener = null, navigate = () => {};

  const active = () => chosen.from !== null || chosen.to !== null;
  const words = (moment) => links.stamp(moment).slice(0, 19).replace("T", " ").replace(/:00$/, "");

  // The compiled chart reads its time axis from a signal; only then is something cut off at its edges.
  function patch(spec) {
    const scale = (spec.scales || []).find((one) => one.name === "x" && one.type === "utc");
    if (!scale) return spec;
    scale.domainRaw = { signal: "chosen_window" };
    spec.signals = [...(spec.signals || []), { name: "chosen_window", value: null }];
    const clip = (marks) => (marks || []).forEach((mark) => {
      if (mark.type !== "group") mark.clip = { signal: "isValid(chosen_window)" };
      clip(mark.marks);
    });
    clip(spec.marks);
    return spec;
  }
  function show(el) {
    const { view, whole } = views.get(el);
    const part = [chosen.from ?? whole[0], chosen.to ?? whole[1]];
    const outside = active() && !(part[0] < whole[1] && part[1] > whole[0]);
    const note = el.parentElement.nextElementSibling;
    if (outside !== note.classList.contains("outside")) {
      if (!outside) note.remove();
      else el.parentElement.after(Object.assign(document.createElement("p"), { className: "outside",
        textContent: "Nothing of this chart lies in the chosen window: it shows its whole span." }));
    }
    view.signal("chosen_window", active() && !outside ? part : null).runAsync();
    el.dataset.window = outside ? "outside" : active() ? part.map(links.stamp).join("/") : "";
  }
  function apply() {
    views.forEach(({ view }, el) => {
      if (el.isConnected) show(el);
      else { view.finalize(); views.delete(el); }
    });
    if (!bar) return;
    bar.hidden = !active() && !opener;
    document.documentElement.classList.toggle("windowed", !bar.hidden);
    const ends = !active() && opener ? whole(opener) : [chosen.from, chosen.to];
    ["from", "to"].forEach((name, place) => { fields[name].value = ends[place] === null ? "" : links.stamp(ends[place]).slice(0, 19); });
    bar.querySelector(".said").textContent = active()
      ? `Charts over time show ${chosen.from === null ? "the start" : words(chosen.from)} to ${chosen.to === null ? "the end" : words(chosen.to)} UTC.` : "";
  }
  // First and last moment of the chart of a button, of all drawn charts without one.
  function whole(button) {
    const own = button && views.get(button.closest("figure").querySelector(".vega"));
    const all = own ? [own.whole] : [...views.values()].map((one) => one.whole);
    return all.length ? [Math.min(...all.map((one) => one[0])), Math.max(...all.map((one) => one[1]))] : [null, null];
  }
  function set(from, to) {
    chosen = { from, to };
    apply();
  }
  // Ends in whole seconds; one that is null stays open.
  function choose(from, to, at) {
    const second = (moment) => (moment === null ? null : Math.round(moment / 1000) * 1000);
    set(second(from), from === null || to === null ? second(to) : Math.max(second(to), second(from) + 1000));
    navigate(at || target, chosen.from, chosen.to);
  }
  function reset() {
    opener = null;
    set(null, null);
    navigate(target, null, null);
  }

  // A chart is a place of its own; the one that stands behind a number is part of that number's.
  function placeOf(el) {
    return el.closest(".evidence") ? target : "/" + el.closest("figure").dataset.link;
  }

  // Dragging. Places are those of the plot: padding, origin and a drawing scaled to its column are taken off.
  function place(el, event) {
    const { view } = views.get(el), svg = el.querySelector("svg"), [box, own] = [svg, el].map((one) => one.getBoundingClientRect());
    const scale = box.width / svg.width.baseVal.value, left = view.padding().left + view.origin()[0];
    const width = view.signal("width"), x = (event.clientX - box.left) / scale - left;
    return { x: Math.max(0, Math.min(width, x)), inside: x >= 0 && x <= width, scale,
      left: box.left - own.left + left * scale, top: box.top - own.top + (view.padding().top + view.origin()[1]) * scale };
  }
  function watch(el) {
    let start = null, strip = null;
    const end = () => { start = null; if (strip) strip.remove(); strip = null; };
    el.addEventListener("pointerdown", (event) => {
      const at = place(el, event);
      if (event.button === 0 && at.inside) start = at;
    });
    el.addEventListener("pointermove", (event) => {
      if (!start) return;
      const at = place(el, event), wide = Math.abs(at.x - start.x);
      if (!strip && wide < 4) return;
      if (!strip) {
        strip = el.appendChild(document.createElement("span"));
        strip.className = "strip";
        strip.style.top = at.top + "px";
        strip.style.height = views.get(el).view.signal("height") * at.scale + "px";
        el.setPointerCapture(event.pointerId);
      }
      strip.style.left = at.left + Math.min(at.x, start.x) * at.scale + "px";
      strip.style.width = wide * at.scale + "px";
    });
    el.addEventListener("pointerup", (event) => {
      if (!start || !strip) return end();
      const axis = views.get(el).view.scale("x"), ends = [start.x, place(el, event).x].map((x) => +axis.invert(x));
      end();
      choose(Math.min(...ends), Math.max(...ends), placeOf(el));
    });
    el.addEventListener("pointercancel", end);
    el.addEventListener("dblclick", () => { if (active()) reset(); });
  }
  function drawn(el, view) {
    if (!el.closest("figure[data-link]")) return;
    views.set(el, { view, whole: view.scale("x").domain().map(Number) });
    watch(el);
    if (active()) show(el);
    else el.dataset.window = "";
  }

  // The two fields, for the keyboard; an empty one is an open end.
  function read() {
    const [from, to] = [fields.from, fields.to].map((field) => (field.value ? Date.parse(field.value + "Z") : null));
    const wrong = fields.from.validity.badInput || fields.to.validity.badInput || (from !== null && to !== null && from >= to);
    fields.to.setCustomValidity(wrong ? "Two times are needed, and the end comes after the start." : "");
    if (wrong) fields.to.reportValidity();
    else if (from === null && to === null) reset();
    else choose(from, to);
  }
  function move(parts) {
    const ends = whole(opener), [from, to] = [chosen.from ?? ends[0], chosen.to ?? ends[1]];
    if (from !== null) choose(from + (to - from) * parts, to + (to - from) * parts);
  }
  if (bar) {
    bar.addEventListener("submit", (event) => { event.preventDefault(); read(); });
    bar.addEventListener("click", (event) => {
      const button = event.target.closest("button[data-move]");
      if (button) move(Number(button.dataset.move));
      if (event.target.closest("button[data-whole]")) reset();
    });
    bar.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      const back = opener;
      reset();
      if (back) back.focus();
    });
    document.addEventListener("click", (event) => {
      const button = event.target.closest("figure[data-link] button[data-window]");
      if (!button) return;
      opener = button;
      target = placeOf(button);
      apply();
      fields.from.focus();
    });
  }
  return {
    patch, drawn, set,
    get range() { return chosen; },
    get active() { return active(); },
    at(place) { target = place; if (!active()) opener = null; },
    whenChosen(run) { navigate = run; },
  };
})();
