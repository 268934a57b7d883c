-- Whether histograms hold together: buckets that grow with their edge, the last one equal to the count, none missing.
-- grain: one row per histogram with a moment to look at; one at which a bucket is null is none
-- param period_us: one moment of each such period is looked at [us]
-- param width_us: how long that moment is, at most one scrape [us]
-- in samples: stored samples
-- in buckets: buckets and their edges, infinity for the last (series_id, histogram_id, le)
-- in counts: the counter of observations of each histogram (series_id, histogram_id)
-- out histogram_id: number of the histogram
-- out moments: moments looked at [count]
-- out falling: of those, with a bucket below the one of a smaller edge [count]
-- out open: without a bucket up to infinity [count]
-- out unequal: whose last bucket is not the count of observations [count]
-- out lacking: with fewer edges than at other times [count]
WITH looked AS (
  SELECT * FROM samples WHERE epoch_us(t) % $period_us < $width_us
), edges AS (
  SELECT b.histogram_id, s.t, b.le, s.value,
    lag(s.value) OVER (PARTITION BY b.histogram_id, s.t ORDER BY b.le) AS below
  FROM looked s JOIN buckets b USING (series_id)
), moments AS (
  SELECT histogram_id, t, count(*) AS edges, bool_or(value < below) AS falls,
    max(value) FILTER (isinf(le)) AS whole
  FROM edges GROUP BY ALL
  HAVING count(value) = count(*)
), counted AS (
  SELECT c.histogram_id, s.t, s.value FROM looked s JOIN counts c USING (series_id)
), most AS (
  SELECT histogram_id, max(edges) AS edges FROM moments GROUP BY ALL
)
SELECT m.histogram_id::BIGINT AS histogram_id, count(*)::BIGINT AS moments,
  count(*) FILTER (m.falls)::BIGINT AS falling,
  count(*) FILTER (m.whole IS NULL)::BIGINT AS open,
  count(*) FILTER (m.whole <> c.value)::BIGINT AS unequal,
  count(*) FILTER (m.edges < most.edges)::BIGINT AS lacking
FROM moments m JOIN most USING (histogram_id) LEFT JOIN counted c USING (histogram_id, t)
GROUP BY ALL
ORDER BY histogram_id
