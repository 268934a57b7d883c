"use strict";
// A link that this page has no place for: what is missing, and the nearest evidence that there is.
const deadLinks = (() => {
  const MOST = 3;

  function decoded(path) {
    try { return path.replace(/^\//, "").split("/").map(decodeURIComponent); } catch { return []; }
  }
  function words(text) {
    return new Set(text.toLowerCase().split(/[^a-z0-9]+/).filter(Boolean));
  }
  // Share of words that two names have in common, 0 to 1.
  function alike(one, other) {
    const a = words(one), b = words(other), both = [...a].filter((word) => b.has(word)).length;
    return both / Math.max(1, a.size + b.size - both);
  }
  // Same service before another, same section before another, then the name; services by theirs.
  function score([service, stage, what], [asked, section, name]) {
    const own = service === asked ? 1 : 0.9 * alike(service, asked);
    return 100 * own + (own < 1 && what === name && stage === section ? 50 : 0) + (stage === section ? 10 : 0) + 5 * alike(what, name);
  }
  // Every place of evidence: ids of elements and links of charts, here and in HTML that is not in the page yet.
  function places(folded = []) {
    const here = [...document.querySelectorAll('[id^="/"], figure[data-link]')];
    const there = folded.flatMap((html) => [...html.matchAll(/\s(?:id="\/|data-link=")([^"]+)"/g)]);
    return [...here.map((el) => el.id || "/" + el.dataset.link), ...there.map((match) => "/" + match[1])];
  }
  function nearest(path, places) {
    const asked = decoded(path);
    if (asked.length !== 3) return [];
    const found = places.map((place) => ({ place, parts: decoded(place) })).filter(({ parts }) => parts.length === 3);
    found.forEach((one) => { one.score = score(one.parts, asked); });
    return found.sort((a, b) => b.score - a.score || (a.place < b.place ? -1 : 1)).slice(0, MOST);
  }
  function why(path, places) {
    const [service, stage, what] = decoded(path);
    if (!what) return "It is no evidence link: one is #/service/stage/what.";
    const known = new Set(places.map((place) => decoded(place)[0]));
    if (!known.has(service)) return "This report has no service " + service + ".";
    return "This report has the service " + service + ", and nothing under " + stage + "/" + what + " of it.";
  }
  // Fill an element with what is missing and with links to what is nearest.
  function tell(el, path, places) {
    el.replaceChildren("The link " + path.replace(/^\//, "") + " leads nowhere. " + why(path, places));
    const near = nearest(path, places);
    near.forEach(({ place, parts: [service, stage, what] }, n) => {
      const link = document.createElement("a");
      link.href = "#" + place;
      link.textContent = what + " (" + stage + ", " + service + ")";
      el.append(n ? ", " : " Nearest: ", link);
    });
    el.append((near.length ? ". " : " ") + "If the link is of an earlier run, hsa compare OLD NEW says what became of it.");
  }
  return { places, tell };
})();
