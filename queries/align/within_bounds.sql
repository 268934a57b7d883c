-- Samples of a run that is cut with --from and --to.
-- grain: one row per series and time, in the order in which they are stored
-- param first: first moment that counts [s since 1970, UTC]
-- param last: first moment that no longer counts [s since 1970, UTC]
-- in samples: stored samples
-- out series_id: number of the series
-- out t: time of the sample [UTC]
-- out value: null = missing [unit of the series]
-- out flag: why the value is null
SELECT series_id::BIGINT AS series_id, t, value::DOUBLE AS value, flag
FROM samples
WHERE epoch_us(t) / 1e6 >= $first AND epoch_us(t) / 1e6 < $last
