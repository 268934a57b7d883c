"use strict";
// The written grammar of evidence links (hs_analysis.evidence), for what stands after "#" in the address:
// "/" service "/" stage "/" what, or the id of a part of the page; then "?from=…&to=…", either may be missing.
const links = (() => {
  const STAGES = ["ingest", "align", "study", "derive", "select", "replay", "policy", "export"];
  const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)$/;

  function decode(text) {
    try { return decodeURIComponent(text); } catch { return null; }
  }
  // Marks that `encodeURIComponent` leaves and Python's `quote` does not, and those that a segment keeps.
  function encode(text, kept) {
    const coded = encodeURIComponent(text).replace(/[!'()*]/g, (sign) => "%" + sign.charCodeAt(0).toString(16).toUpperCase());
    const plain = coded.replace(/%40|%3A/g, (code) => (kept.includes(decode(code)) ? decode(code) : code));
    return plain.startsWith("-") ? "%2D" + plain.slice(1) : plain;
  }
  function path(service, stage, what) {
    return [encode(service, "@"), encode(stage, ""), encode(what, "@:")].join("/");
  }
  // A path in its one canonical form; null where it does not follow the grammar.
  function canonical(text) {
    const parts = text.split("/").map(decode);
    if (parts.length !== 3 || parts.some((part) => !part) || !STAGES.includes(parts[1])) return null;
    return path(...parts);
  }
  function time(text) {
    const moment = text !== null && TIME.test(text) ? Date.parse(text.replace(/(\.\d{3})\d+/, "$1")) : NaN;
    return Number.isNaN(moment) ? null : moment;
  }
  // Milliseconds as ISO 8601 in UTC, as Python prints it.
  function stamp(moment) {
    return new Date(moment).toISOString().replace(".000Z", "Z").replace(/\.(\d{3})Z$/, ".$1000Z");
  }
  // { target, from, to, wrong }: the id that is meant, milliseconds or null, and what could not be read.
  function parse(fragment) {
    const place = fragment.indexOf("?");
    const named = place < 0 ? fragment : fragment.slice(0, place);
    const known = named.startsWith("/") ? canonical(named.slice(1)) : decode(named);
    const found = { target: known === null ? named : named.startsWith("/") ? "/" + known : known, from: null, to: null, wrong: "" };
    const range = {};
    for (const pair of place < 0 ? [] : fragment.slice(place + 1).split("&")) {
      const [key, value] = [pair.split("=")[0], pair.slice(pair.indexOf("=") + 1)];
      const moment = pair.includes("=") ? time(decode(value)) : null;
      if (!["from", "to"].includes(key) || key in range || moment === null) return { ...found, wrong: pair || "?" };
      range[key] = moment;
    }
    if (range.from > range.to) return { ...found, wrong: "from after to" };
    return { ...found, ...range };
  }
  function print(target, from, to) {
    const range = [from === null ? "" : "from=" + stamp(from), to === null ? "" : "to=" + stamp(to)].filter(Boolean).join("&");
    return "#" + target + (range && "?" + range);
  }
  return { parse, print, path, stamp };
})();
