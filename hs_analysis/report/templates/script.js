"use strict";
(() => {
  const byId = (id) => document.getElementById(id);

  // Evidence links: "#/service/stage/what?from=…" opens what hides the element, scrolls there and marks it.
  function land() {
    const raw = location.hash.slice(1);
    document.querySelectorAll(".marked").forEach((el) => el.classList.remove("marked"));
    byId("lost").hidden = true;
    if (!raw) return;
    const path = raw.split("?")[0];
    let el = byId(path);
    if (!el) { try { el = byId(decodeURIComponent(path)); } catch { el = null; } }
    if (!el) {
      if (raw.startsWith("/")) {
        deadLinks.tell(byId("lost"), path, deadLinks.places());
        byId("lost").hidden = false;
        byId("lost").scrollIntoView();
      }
      return;
    }
    for (let up = el; up; up = up.parentElement) if (up.tagName === "DETAILS") up.open = true;
    for (const own of el.querySelectorAll(":scope > details.part")) own.open = true;
    el.classList.add("marked");
    if (!el.hasAttribute("tabindex")) el.tabIndex = -1;
    el.focus({ preventScroll: true });
    el.scrollIntoView({ block: "start" });
  }
  addEventListener("hashchange", land);

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
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy], button[data-save]");
    if (!button) return;
    const source = byId(button.dataset.copy || button.dataset.save);
    if (button.dataset.copy) {
      try { await navigator.clipboard.writeText(source.textContent); } catch {
        select(source);
        document.execCommand("copy");
      }
      say(button, "Copied");
    } else {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([source.textContent], { type: "text/csv" }));
      link.download = button.dataset.name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
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
  document.querySelectorAll("input[data-filter]").forEach((input) => {
    input.addEventListener("input", () => {
      const wanted = input.value.toLowerCase();
      const target = byId(input.dataset.filter);
      const rows = target.tBodies ? target.tBodies[0].rows : target.children;
      [...rows].forEach((row) => { row.hidden = !row.textContent.toLowerCase().includes(wanted); });
    });
  });

  // Contents fold on a narrow screen.
  const contents = document.querySelector(".contents details");
  if (contents && matchMedia("(max-width: 62rem)").matches) contents.open = false;

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
      await vegaEmbed(el, spec, { mode: "vega-lite", renderer: "svg", actions: false, config: look,
        tooltip: { disableDefaultStyle: true } });
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
