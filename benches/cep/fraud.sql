-- Three or more small amounts tell that a card works; a big one follows.
SELECT * FROM event MATCH_RECOGNIZE (
  PARTITION BY k ORDER BY ts
  MEASURES FIRST(SMALL.ts) AS began, BIG.ts AS ended, COUNT(SMALL.*) AS probes, BIG.amount AS taken
  ONE ROW PER MATCH AFTER MATCH SKIP PAST LAST ROW
  PATTERN (SMALL{3,} BIG) WITHIN INTERVAL '10' MINUTE
  DEFINE SMALL AS amount < 300, BIG AS amount >= 950
)
