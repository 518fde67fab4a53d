-- What changed its state, when, and which triggers caused it: the rollback's moves and those of breakers.
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
ORDER BY timestamp_ms, subject
