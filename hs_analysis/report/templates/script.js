"use strict";
(() => {
  const byId = (id) => document.getElementById(id);

  // What is packed is gzip in base64: charts with their rows, the chart library, parts of a heavy page.
  let ready = false, shared = {}, library = null;
  const charts = new Map();  // figure → what it is drawn from
  const parts = new Map();   // section → its HTML, until it is in the page
  const behind = new Map();  // path of a number → what stands behind it
  let madeBy = {};
  async function unpack(el) {
    const bytes = Uint8Array.from(atob(el.textContent), (sign) => sign.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  }
  async function unpackAll() {
    enlist(document);
    for (const el of document.querySelectorAll(".packed-parts")) {
      for (const [id, html] of Object.entries(JSON.parse(await unpack(el)))) parts.set(id, html);
    }
    const known = JSON.parse(await unpack(byId("packed-evidence")));
    madeBy = known.made_by;
    known.numbers.forEach(([path, ...said]) => behind.set(path, said));
    if (byId("packed-charts")) {
      shared = JSON.parse(await unpack(byId("packed-charts")));
      shared.charts.forEach(([key, chart]) => charts.set(key, chart));
    }
    for (const id of [...parts.keys()]) {
      byId(id).classList.add("packed");
      if (byId(id).querySelector("details").open) fill(id);
    }
    settle(document);
  }
  function fill(id) {
    if (!parts.has(id)) return;
    const inner = byId(id).querySelector(".inner");
    inner.innerHTML = parts.get(id);
    byId(id).classList.remove("packed");
    parts.delete(id);
    settle(inner);
  }
  function put(attribute) {  // brings the packed part that holds an element into the page
    for (const [section, html] of parts) if (html.includes(attribute)) return fill(section);
  }
  document.addEventListener("toggle", (event) => {
    if (!event.target.open) return;
    fill(event.target.parentElement.id);
    idle(rest);
  }, true);
  function drawing() {
    library ||= unpack(byId("packed-library")).then((text) => {
      const script = document.createElement("script");
      script.textContent = text;
      document.head.append(script);
    });
    return library;
  }
  function settle(root) {
    root.querySelectorAll("figure[data-figure]").forEach(frame);
    root.querySelectorAll("table").forEach(sortable);
    root.querySelectorAll("table").forEach(searchable);
    root.querySelectorAll("input[data-filter]").forEach(counting);
    root.querySelectorAll('tr[id^="/"] > th:first-child').forEach(linkable);
    enlist(root);
  }
  function linkable(head) {
    if (head.querySelector(".anchor")) return;
    const link = document.createElement("a"), name = head.firstChild;
    link.className = "anchor";
    link.href = "#" + head.parentElement.id;
    link.textContent = "#";
    link.setAttribute("aria-label", "Link to " + name.textContent.trim());
    name.after("\u00a0", link);
  }
  function frame(figure) {
    const key = figure.dataset.figure, chart = charts.get(key), made = byId("chart-frame").content.cloneNode(true);
    const own = figure.closest(".evidence") ? "evidence-" : "", title = figure.querySelector("figcaption");
    if (!chart || figure.querySelector(".vega")) return;
    const [image, under] = made.children, vega = image.firstElementChild, rows = under.querySelector("pre");
    image.setAttribute("aria-label", chart.alt);
    vega.dataset.chart = key;
    vega.style.minHeight = chart.height + "px";
    under.querySelector(".rows").textContent = chart.rows;
    rows.id = own + key + "-csv";
    rows.textContent = chart.csv;
    rows.setAttribute("aria-labelledby", title.id);
    for (const button of under.querySelectorAll("button")) {
      const { copy, save, window, picture } = button.dataset;
      button.setAttribute("aria-label", button.getAttribute("aria-label") + ": " + title.textContent.trim());
      if (copy !== undefined) button.dataset.copy = rows.id;
      if (save !== undefined) Object.assign(button.dataset, { save: rows.id, name: key + ".csv" });
      if (picture !== undefined) button.dataset.name = key + "." + picture;
      if (window !== undefined && figure.dataset.link) button.dataset.window = figure.dataset.link;
      else if (window !== undefined) button.remove();
    }
    figure.insertBefore(image, figure.querySelector(".reading"));
    figure.append(under);
    waiting.add(vega);
    near.observe(vega);
  }

  // The address is the state: opening a link gives what a click on it gives. The parts it needs are open and no
  // others, its place is marked and focused, what stands behind it is beside it, its window is that of the charts.
  // Going back brings back what was. A part that folds is known by the element around it that has an id, and its
  // number in there: parts that are packed come into the page later, and rows are sorted.
  const shut = (what) => document.querySelectorAll(what).forEach((el) => { el.open = false; });
  if (matchMedia("(max-width: 62rem)").matches) shut(".contents details");
  if (matchMedia("(max-width: 40rem)").matches) shut("details.apply");
  const folds = new Map(), counts = new Map(), unfoldedFirst = new Set(), listed = new WeakSet();
  const CONTROLS = "a[href], button, input, summary";
  let here = null;

  function enlist(root) {
    for (const el of root.querySelectorAll("details")) {
      if (listed.has(el) || el.closest(".evidence")) continue;
      const around = el.closest("[id]"), home = around ? around.id : "", place = counts.get(home) || 0;
      counts.set(home, place + 1);
      folds.set(home + " " + place, el);
      listed.add(el);
      if (el.open) unfoldedFirst.add(el);
    }
  }
  function fold(name) {
    const home = name.slice(0, name.lastIndexOf(" "));
    if (!folds.has(name)) fill(home);
    if (!folds.has(name)) put(`id="${home}"`);
    return folds.get(name);
  }
  function keep() {
    const open = [...folds].filter(([, el]) => el.open).map(([name]) => name);
    const focus = document.activeElement, home = focus && focus.closest("[id]");
    const place = home ? [home.id, [...home.querySelectorAll(CONTROLS)].indexOf(focus)] : null;
    history.replaceState({ open, top: scrollY, focus: place, sheet: Boolean(document.querySelector(".evidence")) }, "");
  }
  function focused(place) {
    const home = place && byId(place[0]);
    return home && place[1] >= 0 ? home.querySelectorAll(CONTROLS)[place[1]] : home;
  }
  function unfold(kept, el) {
    const wanted = new Set(kept ? kept.map(fold) : unfoldedFirst);
    if (!kept) {
      for (let up = el; up; up = up.parentElement) if (up.tagName === "DETAILS") wanted.add(up);
      if (el) for (const own of el.querySelectorAll(":scope > details.part")) wanted.add(own);
    }
    for (const part of wanted) if (part) fill(part.parentElement.id);
    folds.forEach((part) => { if (part.open !== wanted.has(part)) part.open = wanted.has(part); });
  }
  function find(target) {
    const path = target.slice(1), drawn = `data-link="${path}"`;
    const shown = () => byId(target) || document.querySelector(`figure[data-link="${CSS.escape(path)}"]`);
    if (!shown()) put(`id="${target}"`);
    if (!shown()) put(drawn);
    return shown();
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
    if (!ready) return;
    close();
    const raw = location.hash.slice(1), link = links.parse(raw), el = raw ? find(link.target) : null;
    const kept = history.state;
    here = link.target;
    if (kept || raw) unfold(kept && kept.open, el);
    mark(el);
    if (el && (!kept || kept.sheet) && behind.has(el.id.slice(1))) tell(el, behind.get(el.id.slice(1)));
    timeWindow.at(link.target);
    timeWindow.set(link.from, link.to);
    if (el && !kept) el.scrollIntoView({ block: "start" });
    if (kept) {
      (focused(kept.focus) || el || document.body).focus({ preventScroll: true });
      scrollTo(0, kept.top);
    }
    if (raw && !el && raw.startsWith("/")) {
      deadLinks.tell(byId("lost"), link.target, deadLinks.places([...parts.values()]));
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
    if (target !== here) { close(); mark(el); }
    else if (el && document.activeElement.closest(".evidence")) el.focus({ preventScroll: true });
    here = target;
    timeWindow.at(target);
    lost("");
  });

  // Beside the number: its chart, the code that ran, its rows, its input files with their bytes.
  function tell(el, [kind, title, key, rows, window, metrics, on]) {
    const made = byId("evidence-frame").content.cloneNode(true).querySelector("section");
    made.querySelector("#evidence-h").textContent = "Behind this number: " + title;
    const said = { made_by: codes(madeBy[kind]), metrics: codes(metrics), window: [window], rows: rows ? [rows] : [],
      inputs: [inputFiles()], on: on.map((path) => anchorTo("#/" + path, behind.get(path)?.[1] ?? path)) };
    for (const [part, nodes] of Object.entries(said)) {
      const place = made.querySelector(`[data-part="${part}"]`);
      if (nodes.length) nodes.forEach((node, n) => place.append(n ? ", " : "", node));
      else { place.previousElementSibling.remove(); place.remove(); }
    }
    const method = byId("method-" + (kind === "bench_sweeps" ? "sweeps" : kind));
    if (method) made.querySelector('[data-part="window"]').append("; ", anchorTo("#" + method.id, "how this is made"));
    if (key && !document.querySelector(`[data-figure="${key}"]`)) put(`data-figure="${key}"`);
    const shown = key && document.querySelector(`[data-figure="${key}"]`), copy = made.querySelector("figure");
    (el.closest(".scroll") || el).after(made);
    if (!shown) { copy.remove(); return; }
    copy.dataset.figure = key;
    if (shown.dataset.link) copy.dataset.link = shown.dataset.link;
    const caption = shown.querySelector("figcaption").cloneNode(true);
    caption.id = "evidence-title";
    copy.append(caption, shown.querySelector(".reading").cloneNode(true));
    frame(copy);
  }
  function close() {
    document.querySelectorAll(".evidence").forEach((el) => el.remove());
  }
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !event.target.closest("#window")) close();
  });
  document.addEventListener("click", (event) => { if (event.target.dataset.close) close(); });
  function codes(names) {
    return (names || []).map((name) => Object.assign(document.createElement("code"), { textContent: name }));
  }
  function anchorTo(href, words) {
    return Object.assign(document.createElement("a"), { href, textContent: words });
  }
  function inputFiles() {
    const rows = byId("inputs") ? [...byId("inputs").tBodies[0].rows] : [];
    const words = rows.map((row) => [...row.cells].slice(0, 3).map((cell) => cell.textContent.trim()).join(", SHA-256 ")
      .replace(", SHA-256 ", ", "));
    if (words.length === 1) return words[0];
    const sum = rows.reduce((all, row) => all + Number(row.cells[1].textContent.replace(/\D/g, "")), 0);
    const more = document.createElement("details");
    more.append(Object.assign(document.createElement("summary"), { textContent: rows.length + " files, "
      + sum.toLocaleString("en") + " bytes, with SHA-256" }));
    words.forEach((text) => more.append(Object.assign(document.createElement("div"), { textContent: text })));
    return more;
  }

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
  const KEPT_MS = 60_000;  // a busy browser starts the download seconds after the click
  function save(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), KEPT_MS);
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
  function sortable(table) {
    const body = table.tBodies[0];
    if (!body || body.rows.length < 3 || table.querySelector("thead button")) return;
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
  }
  // A field above each longer table, and the one of the contents: only rows with all its words stay.
  const LONG_ROWS = 8;
  function searchable(table) {
    if (!table.id || !table.tBodies[0] || table.tBodies[0].rows.length <= LONG_ROWS || byId(table.id + "-filter")) return;
    const field = Object.assign(document.createElement("input"), { id: table.id + "-filter", type: "search", autocomplete: "off" });
    field.dataset.filter = table.id;
    field.setAttribute("aria-describedby", table.id + "-caption");
    const label = Object.assign(document.createElement("label"), { htmlFor: field.id, textContent: "Filter rows" });
    const line = Object.assign(document.createElement("p"), { className: "filter" });
    line.append(label, " ", field);
    table.closest(".scroll").before(line);
  }
  function counting(input) {
    if (input.parentElement.querySelector(".left")) return;
    const left = input.parentElement.appendChild(Object.assign(document.createElement("span"), { className: "left" }));
    left.setAttribute("role", "status");
  }
  document.addEventListener("input", ({ target: input }) => {
    if (!input.dataset.filter) return;
    const target = byId(input.dataset.filter), wanted = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const rows = [...(target.tBodies ? target.tBodies[0].rows : target.children)];
    rows.forEach((row) => {
      const text = row.textContent.toLowerCase();
      row.hidden = !wanted.every((word) => text.includes(word));
    });
    input.parentElement.querySelector(".left").textContent = wanted.length
      ? ` ${rows.filter((row) => !row.hidden).length} of ${rows.length} rows` : "";
  });

  // Charts: drawn when near the screen, the rest when the browser is idle.
  const waiting = new Set();
  async function draw(el) {
    if (!el.clientWidth || !waiting.delete(el)) return;  // folded away: drawn when it opens, at its own width
    try {
      const { spec: kept, csv } = charts.get(el.dataset.chart), spec = structuredClone(kept);
      spec.layer = spec.layer.map((place) => structuredClone(shared.layers[place]));
      spec.datasets = { ...spec.datasets, main: csv };
      await drawing();
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
  const near = new IntersectionObserver((seen) => {
    for (const entry of seen) if (entry.isIntersecting) { near.unobserve(entry.target); draw(entry.target); }
  }, { rootMargin: "600px" });

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

  unpackAll().catch((error) => {
    console.error(error);
    byId("unpacked").hidden = false;
  }).finally(() => {
    ready = true;
    document.documentElement.classList.add("ready");
    land();
    idle(rest);
  });
})();
