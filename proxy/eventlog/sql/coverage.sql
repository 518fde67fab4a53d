-- How much of what was asked for the recommender covered, before popularity filled up.
-- param route name = '': of this route alone; empty: of all
SELECT
  CAST(COALESCE(SUM(weight), 0) AS BIGINT) AS requests,
  AVG(coverage) AS avg_coverage,
  SUM(CASE WHEN k_returned < k THEN 1 ELSE 0 END) * 100.0 / COUNT(*) AS underfill_rate
FROM events.ranking
WHERE event_date BETWEEN DATE {since_date} AND DATE {until_date}
  AND timestamp_ms >= {since}
  AND timestamp_ms < {until}
  AND shadow = false
  AND ({route} = '' OR route = {route})
