"use strict";
(() => {
  const byId = (id) => document.getElementById(id);

  // The address is the state: opening a link gives what a click on it gives. The parts it needs are open and no
  // others, its place is marked and focused, its window is that of the charts. Going back brings back what was.
  const folds = [...document.querySelectorAll("details")];
  const contents = document.querySelector(".contents details");
  if (contents && matchMedia("(max-width: 62rem)").matches) contents.open = false;
  const unfoldedFirst = new Set(folds.filter((el) => el.open));
  let here = null;

  function keep() {
    const open = folds.flatMap((el, place) => (el.open ? [place] : []));
    history.replaceState({ open, top: scrollY, focus: focusable().indexOf(document.activeElement) }, "");
  }
  function focusable() {
    return [...document.querySelectorAll("a[href], button, input, summary")];
  }
  function unfold(kept, el) {
    const wanted = kept ? new Set(kept.map((place) => folds[place])) : new Set(unfoldedFirst);
    if (!kept) {
      for (let up = el; up; up = up.parentElement) if (up.tagName === "DETAILS") wanted.add(up);
      if (el) for (const own of el.querySelectorAll(":scope > details.part")) wanted.add(own);
    }
    folds.forEach((fold) => { if (fold.open !== wanted.has(fold)) fold.open = wanted.has(fold); });
  }
  function find(target) {
    return byId(target) || document.querySelector(`figure[data-link="${CSS.escape(target.slice(1))}"]`);
  }
  function mark(el) {
    document.querySelectorAll(".marked").forEach((other) => other.classList.remove("marked"));
    if (!el) return;
    el.classList.add("marked");
    if (!el.hasAttribute("tabindex") && el.tabIndex < 0) el.tabIndex = -1;
    el.focus({ preventScroll: true });
  }
  function lost(text) {
    byId("lost").textContent = text;
    byId("lost").hidden = !text;
    if (!text) return;
    byId("lost").scrollIntoView();
  }
  function land() {
    const raw = location.hash.slice(1), link = links.parse(raw), el = raw ? find(link.target) : null;
    const kept = history.state;
    here = link.target;
    if (kept || raw) unfold(kept && kept.open, el);
    mark(el);
    timeWindow.at(link.target);
    timeWindow.set(link.from, link.to);
    if (el && !kept) el.scrollIntoView({ block: "start" });
    if (kept) {
      (focusable()[kept.focus] || el || document.body).focus({ preventScroll: true });
      scrollTo(0, kept.top);
    }
    if (raw && !el && raw.startsWith("/")) {
      deadLinks.tell(byId("lost"), link.target, deadLinks.places());
      byId("lost").hidden = false;
      byId("lost").scrollIntoView();
      byId("lost").focus({ preventScroll: true });
    }
    else lost(link.wrong && "The time range of this link can't be read: " + link.wrong + ". Write ?from=…&to=…, each once, in UTC.");
  }
  function follow(fragment) {
    if (fragment === location.hash) { history.replaceState(null, ""); land(); } else location.hash = fragment;
  }
  addEventListener("hashchange", land);
  addEventListener("pagehide", keep);
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    keep();
    const found = links.parse(link.getAttribute("href").slice(1)), own = found.from !== null || found.to !== null;
    const range = own ? found : timeWindow.range;
    follow(links.print(found.target, range.from, range.to));
  });
  // A window that was chosen here: its chart is the place, and the address names both.
  timeWindow.whenChosen((target, from, to) => {
    const fragment = links.print(target, from, to), el = find(target);
    keep();
    if (fragment !== location.hash) history.pushState(null, "", fragment);
    if (target !== here) mark(el);
    here = target;
    timeWindow.at(target);
    lost("");
  });

  // Copy and save.
  function say(button, word) {
    const before = button.textContent;
    button.textContent = word;
    setTimeout(() => { button.textContent = before; }, 1500);
  }
  function select(el) {
    const range = document.createRange();
    range.selectNodeContents(el);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
  }
  function save(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy], button[data-save], button[data-picture]");
    if (!button) return;
    const source = byId(button.dataset.copy || button.dataset.save);
    if (button.dataset.copy) {
      try { await navigator.clipboard.writeText(source.textContent); } catch {
        select(source);
        document.execCommand("copy");
      }
      say(button, "Copied");
    } else if (button.dataset.save) {
      save(new Blob([source.textContent], { type: "text/csv" }), button.dataset.name);
    } else {
      const file = await pictures.file(button.closest("figure"), button.dataset.picture);
      if (file) save(file, button.dataset.name);
      else say(button, "Not drawn");
    }
  });

  // Sortable tables: a button in every heading.
  function key(row, column) {
    const cell = row.cells[column];
    const value = cell.dataset.sort === undefined ? NaN : Number(cell.dataset.sort);
    return Number.isNaN(value) ? { text: cell.textContent.trim() } : { value };
  }
  function compare(a, b) {
    if (a.value !== undefined && b.value !== undefined) return a.value - b.value;
    if (a.value !== undefined) return -1;
    if (b.value !== undefined) return 1;
    return a.text.localeCompare(b.text);
  }
  document.querySelectorAll("table").forEach((table) => {
    const body = table.tBodies[0];
    if (!body || body.rows.length < 3) return;
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        [...head.parentElement.cells].forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const rows = [...body.rows].map((row) => ({ row, key: key(row, column) }));
        rows.sort((a, b) => (up ? 1 : -1) * compare(a.key, b.key));
        body.append(...rows.map((entry) => entry.row));
      });
    });
  });
  // A field above each longer table, and the one of the contents: only rows with all its words stay.
  const LONG_ROWS = 8;
  document.querySelectorAll("table").forEach((table) => {
    if (!table.id || !table.tBodies[0] || table.tBodies[0].rows.length <= LONG_ROWS) return;
    const field = Object.assign(document.createElement("input"), { id: table.id + "-filter", type: "search", autocomplete: "off" });
    field.dataset.filter = table.id;
    field.setAttribute("aria-describedby", table.id + "-caption");
    const label = Object.assign(document.createElement("label"), { htmlFor: field.id, textContent: "Filter rows" });
    const line = Object.assign(document.createElement("p"), { className: "filter" });
    line.append(label, " ", field);
    table.closest(".scroll").before(line);
  });
  document.querySelectorAll("input[data-filter]").forEach((input) => {
    const target = byId(input.dataset.filter);
    const left = input.parentElement.appendChild(Object.assign(document.createElement("span"), { className: "left" }));
    left.setAttribute("role", "status");
    input.addEventListener("input", () => {
      const wanted = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      const rows = [...(target.tBodies ? target.tBodies[0].rows : target.children)];
      rows.forEach((row) => {
        const text = row.textContent.toLowerCase();
        row.hidden = !wanted.every((word) => text.includes(word));
      });
      left.textContent = wanted.length ? ` ${rows.filter((row) => !row.hidden).length} of ${rows.length} rows` : "";
    });
  });

  // Charts: drawn when near the screen, the rest when the browser is idle.
  const shared = byId("chart-shared") ? JSON.parse(byId("chart-shared").textContent) : {};
  const waiting = new Set(document.querySelectorAll(".vega[data-chart]"));
  async function draw(el) {
    if (!el.clientWidth || !waiting.delete(el)) return;  // folded away: drawn when it opens, at its own width
    try {
      const spec = JSON.parse(byId(el.dataset.chart + "-spec").textContent);
      spec.layer = spec.layer.map((place) => structuredClone(shared.layers[place]));
      spec.datasets = { ...spec.datasets, main: byId(el.dataset.chart + "-csv").textContent };
      const narrow = el.clientWidth < 520;
      const look = structuredClone(shared.config);
      look.axis.labelLimit = narrow ? 110 : 220;
      look.legend.columns = narrow ? 1 : 2;
      look.legend.labelLimit = Math.max(120, el.clientWidth - 60);
      const { view } = await vegaEmbed(el, spec, { mode: "vega-lite", renderer: "svg", actions: false, config: look,
        patch: timeWindow.patch, tooltip: { disableDefaultStyle: true } });
      timeWindow.drawn(el, view);
      el.dataset.state = "drawn";
    } catch (error) {
      el.dataset.state = "failed";
      el.textContent = "The chart could not be drawn; its data are below.";
      el.removeAttribute("aria-hidden");
      el.parentElement.removeAttribute("role");
      el.parentElement.removeAttribute("aria-label");
      console.error(error);
    }
  }
  const idle = window.requestIdleCallback || ((run) => setTimeout(run, 50));
  async function rest() {
    const next = [...waiting].find((el) => el.clientWidth);
    if (!next) return;
    await draw(next);
    idle(rest);
  }
  if (waiting.size && typeof vegaEmbed === "function") {
    const near = new IntersectionObserver((seen) => {
      for (const entry of seen) if (entry.isIntersecting) { near.unobserve(entry.target); draw(entry.target); }
    }, { rootMargin: "600px" });
    waiting.forEach((el) => near.observe(el));
    idle(rest);
  }

  // Printing opens the parts that a decision rests on; what else is open stays open.
  const unfolded = new Set();
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details[data-print]:not([open])").forEach((el) => {
      el.open = true;
      el.classList.add("unfolded");
      unfolded.add(el);
    });
  });
  addEventListener("afterprint", () => {
    unfolded.forEach((el) => { el.open = false; el.classList.remove("unfolded"); });
    unfolded.clear();
  });

  land();
})();
