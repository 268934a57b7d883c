-- Requests started minus requests finished per window, scrape gaps included, so that their running sum does not drift.
-- grain: one row per service, capture and window in which a counter was read
-- param window_s: width of a window [s]
-- in increases: result of increases
-- in terms: series of started (sign 1) and finished (sign -1) requests (service, capture, sign, series_id)
-- out service: namespace/model
-- out capture: capture name
-- out t: start of the window [s since 1970, UTC]
-- out net: requests started minus finished [requests]
SELECT t.service, t.capture,
  ((ceil(i.t1 / $window_s) - 1) * $window_s)::DOUBLE AS t,
  sum(i.increase * t.sign ORDER BY i.series_id, i.t1)::DOUBLE AS net
FROM increases i JOIN terms t USING (series_id)
GROUP BY ALL
ORDER BY t.service, t.capture, 3
