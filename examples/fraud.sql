-- Payment fraud: patterns over several payments of a card, and a score that knows how fast each card usually is.
-- Run it from the root of the repository: eagre run examples/fraud.sql        docs/examples.md explains each statement.

-- Three days of a bank with 2,000 cards. Fraud of four kinds is planted; is_fraud, episode_id and episode_kind say where.
CREATE TABLE payment (WATERMARK FOR event_time AS event_time - INTERVAL '5' SECOND)
WITH ('connector' = 'payments', 'card-count' = '2000', 'events-per-second' = '1', 'number-of-rows' = '262144');

-- How many payments a card has made within five minutes, and how rare that is for this card.
CREATE VIEW paced AS
SELECT *, detect_anomalies(payments, event_time, method => 'ewma', min_training => 20)
    OVER (PARTITION BY card ORDER BY event_time) AS pace
FROM (
  SELECT *, count(*) OVER (PARTITION BY card ORDER BY event_time
    RANGE BETWEEN INTERVAL '5' MINUTE PRECEDING AND CURRENT ROW) AS payments
  FROM payment
);

-- Rule 1: a stolen card is tried with small amounts, and then used.
CREATE VIEW tested AS SELECT * FROM payment MATCH_RECOGNIZE (
  PARTITION BY card ORDER BY event_time
  MEASURES LAST(event_time) AS at, LAST(episode_id) AS episode_id, COUNT(*) AS payments, SUM(amount) AS total
  PATTERN (PROBE{3,} LARGE) WITHIN INTERVAL '5' MINUTE
  DEFINE PROBE AS channel = 'online' AND amount <= 3, LARGE AS channel = 'online' AND amount >= 300
);

-- Rule 2: nobody pays in a shop here, and ten minutes later in one abroad.
CREATE VIEW travelled AS SELECT * FROM payment MATCH_RECOGNIZE (
  PARTITION BY card ORDER BY event_time
  MEASURES LAST(event_time) AS at, LAST(episode_id) AS episode_id, COUNT(*) AS payments, SUM(amount) AS total
  PATTERN (HERE ONLINE* ABROAD) WITHIN INTERVAL '10' MINUTE
  DEFINE HERE AS channel <> 'online', ONLINE AS channel = 'online', ABROAD AS channel <> 'online' AND country <> HERE.country
);

-- Rule 3: a burst that is rare for this card, at one cash machine after another, or of a contactless card.
CREATE VIEW rushed AS SELECT * FROM paced MATCH_RECOGNIZE (
  PARTITION BY card ORDER BY event_time
  MEASURES LAST(event_time) AS at, LAST(episode_id) AS episode_id, COUNT(*) AS payments, SUM(amount) AS total
  PATTERN (CASH{2} | TAP{4}) WITHIN INTERVAL '10' MINUTE
  DEFINE CASH AS channel = 'atm' AND pace.p_value < 0.05, TAP AS channel = 'contactless' AND pace.p_value < 0.05
);

CREATE VIEW alarm AS
SELECT 'tested' AS rule, * FROM tested
UNION ALL SELECT 'travelled', * FROM travelled
UNION ALL SELECT 'rushed', * FROM rushed;

-- Alarms of a card with less than an hour between them are one case for a person to look at.
CREATE VIEW fraud_case AS
SELECT card, min(at) AS at, string_agg(DISTINCT rule, ', ') AS rules, count(*) AS alarms, max(total) AS amount,
  max(episode_id) AS episode_id
FROM TABLE(SESSION(TABLE alarm PARTITION BY card, DESCRIPTOR(at), INTERVAL '1' HOUR))
GROUP BY card, window_start, window_end;

-- The newest cases.
SELECT at, card, rules, alarms, round(amount, 2) AS amount, episode_id IS NOT NULL AS is_fraud FROM fraud_case ORDER BY at DESC LIMIT 10;

-- Of each kind of fraud: how many episodes there are, and how many became a case.
SELECT p.episode_kind, count(*) AS episodes, count(c.episode_id) AS found, round(count(c.episode_id) * 1.0 / count(*), 3) AS recall
FROM (SELECT DISTINCT episode_id, episode_kind FROM payment WHERE episode_id IS NOT NULL) AS p
LEFT JOIN (SELECT DISTINCT episode_id FROM fraud_case) AS c ON c.episode_id = p.episode_id
GROUP BY p.episode_kind ORDER BY p.episode_kind;

-- Of all cases: how many are fraud.
SELECT count(*) AS cases, count(episode_id) AS fraud, round(count(episode_id) * 1.0 / count(*), 3) AS precision FROM fraud_case;
