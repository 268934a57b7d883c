"use strict";
// A drawn chart as a picture of its own: colours written out, its title above it, on the paper of the page.
const pictures = (() => {
  const MARGIN = 16, LINE = 20, LETTER = 7.5, SCALE = 2;

  function plain(text) {
    const page = getComputedStyle(document.documentElement);
    return text.replace(/var\((--[\w-]+)\)/g, (_, name) => page.getPropertyValue(name).trim());
  }
  function wrapped(text, width) {
    const lines = [""];
    for (const word of text.split(/\s+/)) {
      const last = lines[lines.length - 1];
      if (last && (last.length + 1 + word.length) * LETTER > width) lines.push(word);
      else lines[lines.length - 1] = last ? last + " " + word : word;
    }
    return lines;
  }
  function add(parent, name, attributes, text) {
    const el = parent.appendChild(document.createElementNS(parent.namespaceURI, name));
    for (const [key, value] of Object.entries(attributes)) el.setAttribute(key, value);
    if (text) el.textContent = text;
    return el;
  }
  // { text, width, height } of the chart of a figure; null while it is not drawn.
  function svg(figure) {
    const own = figure.querySelector(".vega svg");
    if (!own) return null;
    const [wide, high] = [own.width.baseVal.value, own.height.baseVal.value];
    const title = wrapped(figure.querySelector("figcaption").textContent.trim(), wide), top = MARGIN + LINE * title.length;
    const [width, height] = [wide + 2 * MARGIN, high + top + MARGIN];
    const whole = document.createElementNS(own.namespaceURI, "svg");
    for (const [key, value] of Object.entries({ width, height, viewBox: `0 0 ${width} ${height}` })) whole.setAttribute(key, value);
    add(whole, "title", {}, figure.querySelector("[role=img]").getAttribute("aria-label"));
    add(whole, "rect", { width, height, fill: "var(--paper)" });
    title.forEach((line, place) => add(whole, "text", {
      x: MARGIN, y: MARGIN + LINE * place + 10, fill: "var(--ink)", "font-size": 14, "font-weight": 600, "font-family": "system-ui, sans-serif" }, line));
    const drawing = whole.appendChild(own.cloneNode(true));
    for (const [key, value] of Object.entries({ x: MARGIN, y: top })) drawing.setAttribute(key, value);
    return { text: plain(new XMLSerializer().serializeToString(whole)), width, height };
  }
  async function png(picture) {
    const image = new Image();
    image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(picture.text);
    await image.decode();
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [picture.width * SCALE, picture.height * SCALE];
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    return new Promise((done) => { canvas.toBlob(done, "image/png"); });
  }
  // The file of a chart as a Blob, null while it is not drawn.
  async function file(figure, kind) {
    const picture = svg(figure);
    if (!picture) return null;
    return kind === "png" ? png(picture) : new Blob([picture.text], { type: "image/svg+xml" });
  }
  return { file };
})();
