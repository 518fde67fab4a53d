-- The 95th percentile of latency by bucket and cohort, and the share of requests later than the target.
-- param target_ms number = 200: the latency target, in milliseconds
-- param bucket_width count = 10000: buckets taken together; 1 shows each, 10000 all as one
-- param route name = '': of this route alone; empty: of all
SELECT
  CAST(FLOOR(bucket / {bucket_width}) * {bucket_width} AS BIGINT) AS bucket,
  cohort,
  CAST(SUM(weight) AS BIGINT) AS requests,
  PERCENTILE_APPROX(latency_ms, 0.95) AS p95_latency,
  AVG(CASE WHEN latency_ms > {target_ms} THEN 1E0 ELSE 0E0 END) AS late_share
FROM events.ranking
WHERE event_date BETWEEN DATE {since_date} AND DATE {until_date}
  AND timestamp_ms >= {since}
  AND timestamp_ms < {until}
  AND shadow = false
  AND ({route} = '' OR route = {route})
GROUP BY 1, 2
ORDER BY 1, 2
