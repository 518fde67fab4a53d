-- What changed its state, when, and which triggers caused it: the rollback's moves and those of breakers.
-- Moves of one moment are in the order in which the machine makes them.
-- param subject name = '': of this alone, for example rollback or breaker cf; empty: of all
SELECT
  timestamp_ms,
  subject,
  state_before,
  state_after,
  event,
  stage,
  actor,
  CONCAT_WS(', ', triggers) AS triggers,
  reason
FROM events.transition
WHERE event_date BETWEEN DATE {since_date} AND DATE {until_date}
  AND timestamp_ms >= {since}
  AND timestamp_ms < {until}
  AND ({subject} = '' OR subject = {subject})
ORDER BY
  timestamp_ms,
  subject,
  CASE state_before
    WHEN 'RECOVERY_VERIFY' THEN 0
    WHEN 'NORMAL' THEN 1
    WHEN 'DEGRADED' THEN 2
    WHEN 'ROLLBACK_PENDING' THEN 3
    ELSE 4
  END
