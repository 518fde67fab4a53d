-- Before and after a rollback, or any other moment: coverage, latency, errors and how many answers were full.
-- Coverage and latency are of what is judged; fill and volume of all that users got, killed or not.
-- param rollback_time time: when the rollback took effect
-- param route name = '': of this route alone; empty: of all
SELECT
  'pre_rollback' AS period,
  CAST(COALESCE(SUM(weight), 0) AS BIGINT) AS requests,
  AVG(CASE WHEN shadow = false THEN coverage END) AS avg_coverage,
  PERCENTILE_APPROX(CASE WHEN shadow = false THEN latency_ms END, 0.95) AS p95_latency,
  SUM(CASE WHEN failed THEN 1 ELSE 0 END) * 1000.0 / COUNT(*) AS error_rate_per_1k,
  SUM(CASE WHEN k_returned = k THEN 1 ELSE 0 END) * 100.0 / COUNT(*) AS fill_rate
FROM events.ranking
WHERE event_date BETWEEN DATE {since_date} AND DATE {until_date}
  AND timestamp_ms >= {since}
  AND timestamp_ms < {until}
  AND timestamp_ms < {rollback_time}
  AND (shadow = false OR side = 'decided')
  AND ({route} = '' OR route = {route})

UNION ALL

SELECT
  'post_rollback' AS period,
  CAST(COALESCE(SUM(weight), 0) AS BIGINT) AS requests,
  AVG(CASE WHEN shadow = false THEN coverage END) AS avg_coverage,
  PERCENTILE_APPROX(CASE WHEN shadow = false THEN latency_ms END, 0.95) AS p95_latency,
  SUM(CASE WHEN failed THEN 1 ELSE 0 END) * 1000.0 / COUNT(*) AS error_rate_per_1k,
  SUM(CASE WHEN k_returned = k THEN 1 ELSE 0 END) * 100.0 / COUNT(*) AS fill_rate
FROM events.ranking
WHERE event_date BETWEEN DATE {since_date} AND DATE {until_date}
  AND timestamp_ms >= {since}
  AND timestamp_ms < {until}
  AND timestamp_ms >= {rollback_time}
  AND (shadow = false OR side = 'decided')
  AND ({route} = '' OR route = {route})
ORDER BY period DESC
