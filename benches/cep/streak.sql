-- Five rises and more, one after the other.
SELECT * FROM event MATCH_RECOGNIZE (
  PARTITION BY k ORDER BY ts
  MEASURES FIRST(UP.ts) AS began, LAST(UP.ts) AS ended, COUNT(*) AS rises
  ONE ROW PER MATCH AFTER MATCH SKIP PAST LAST ROW
  PATTERN (UP{5,})
  DEFINE UP AS amount > PREV(amount)
)
