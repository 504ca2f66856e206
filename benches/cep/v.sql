-- A fall and then a rise.
SELECT * FROM event MATCH_RECOGNIZE (
  PARTITION BY k ORDER BY ts
  MEASURES STRT.ts AS began, LAST(DOWN.ts) AS turned, LAST(UP.ts) AS ended, STRT.amount AS first_amount, LAST(DOWN.amount) AS lowest
  ONE ROW PER MATCH AFTER MATCH SKIP PAST LAST ROW
  PATTERN (STRT DOWN+ UP+)
  DEFINE DOWN AS amount < PREV(amount), UP AS amount > PREV(amount)
)
