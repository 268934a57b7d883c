-- How often two series that differ in one label only tell the same: copies scraped by two Prometheus servers do.
-- grain: one row per pair with a moment to compare
-- param near_ratio: values closer than this share of the larger one are alike [ratio]
-- in samples: stored samples
-- in pairs: pairs to compare and how old the second's last value may be (pair_id, first_id, second_id, reach_s)
-- out pair_id: number of the pair
-- out compared: values of the first that the second has one for [count]
-- out alike: of those, how many are alike [count]
WITH firsts AS (
  SELECT p.pair_id, p.second_id, p.reach_s, s.t, s.value
  FROM samples s JOIN pairs p ON s.series_id = p.first_id WHERE s.value IS NOT NULL
), seconds AS (
  SELECT p.pair_id, s.t, s.value
  FROM samples s JOIN pairs p ON s.series_id = p.second_id WHERE s.value IS NOT NULL
), met AS (
  SELECT f.pair_id, f.value AS one, s.value AS other
  FROM firsts f ASOF JOIN seconds s ON f.pair_id = s.pair_id AND s.t <= f.t
  WHERE (epoch_us(f.t) - epoch_us(s.t)) / 1e6 <= f.reach_s
)
SELECT pair_id::BIGINT AS pair_id, count(*)::BIGINT AS compared,
  count(*) FILTER (abs(one - other) <= $near_ratio * greatest(abs(one), abs(other)))::BIGINT AS alike
FROM met
GROUP BY pair_id
ORDER BY pair_id
