-- Maintenance before the machine stops: a forecast of each machine's vibration, and a pattern over forecasts.
-- Run it from the root of the repository: eagre run examples/maintenance.sql        docs/examples.md explains each statement.

-- Six weeks of twenty machines, a reading every ten minutes, a service every week. Faults of five kinds are planted; fault_id and
-- fault_kind say where.
CREATE TABLE reading (WATERMARK FOR event_time AS event_time - INTERVAL '1' MINUTE)
WITH ('connector' = 'telemetry', 'machine-count' = '20', 'interval-ms' = '600000', 'service-period-readings' = '1008',
  'fault-share' = '0.5', 'number-of-rows' = '120960');

-- The median of an hour: one wild reading is no news. What grows by a factor is a straight line in its logarithm.
CREATE VIEW hourly AS
SELECT machine, date_trunc('week', window_start) AS service, window_time, median(vibration_mm_s) AS vibration,
  ln(median(vibration_mm_s)) AS ln_vibration, max(fault_id) FILTER (WHERE fault_kind = 'bearing_wear') AS fault_id
FROM TABLE(TUMBLE(TABLE reading, DESCRIPTOR(event_time), INTERVAL '1' HOUR))
GROUP BY machine, window_start, window_end, window_time;

-- Every other hour, each machine's next two days. After a service a machine is another one: it has a forecaster of its own.
CREATE VIEW ahead AS SELECT * FROM FORECAST(
  TABLE hourly, DESCRIPTOR(ln_vibration), ts => window_time, key => (machine, service), step => INTERVAL '1' HOUR, horizon => 48,
  method => 'holt_winters', seasonality => 'none', levels => ARRAY[0.5, 0.75], emit => 'every 2');

-- One row of each forecast: when the machine has to stop, at 4.5 mm/s (ISO 10816-1), by one chance in four; null: not within two days.
CREATE VIEW outlook AS SELECT * FROM ahead MATCH_RECOGNIZE (
  PARTITION BY machine, service, made_at ORDER BY ts
  MEASURES STOP.ts AS stop_at
  PATTERN (^ (GOES_ON*? STOP | GOES_ON+ $))
  DEFINE GOES_ON AS q75 < ln(4.5), STOP AS q75 >= ln(4.5)
);

-- Maintenance is needed when two forecasts in a row say so and the one before did not: an event each time, and not an alarm every hour.
CREATE VIEW maintenance_needed AS SELECT * FROM outlook MATCH_RECOGNIZE (
  PARTITION BY machine ORDER BY made_at
  MEASURES SURE.made_at AS needed_at, SURE.stop_at AS stop_at
  PATTERN (CALM SIGN SURE)
  DEFINE CALM AS stop_at IS NULL, SIGN AS stop_at IS NOT NULL, SURE AS stop_at IS NOT NULL
);

-- What really happened: when the vibration of a worn bearing first was beyond the limit, if nobody came.
CREATE VIEW stopped AS
SELECT machine, fault_id, min(window_time) AS stopped_at FROM hourly
WHERE fault_id IS NOT NULL AND vibration >= 4.5 GROUP BY machine, fault_id;

-- Each stop with the event before it.
CREATE VIEW warned AS
SELECT s.machine, s.fault_id, s.stopped_at, min(m.needed_at) AS needed_at, min(m.stop_at) AS foretold_at
FROM stopped AS s LEFT JOIN maintenance_needed AS m
  ON m.machine = s.machine AND m.needed_at BETWEEN s.stopped_at - INTERVAL '3' DAY AND s.stopped_at
GROUP BY s.machine, s.fault_id, s.stopped_at;

-- Windows end a millisecond before the hour, so one is added to be read.
SELECT machine, needed_at + INTERVAL '0.001' SECOND AS needed_at, foretold_at + INTERVAL '0.001' SECOND AS foretold_at,
  stopped_at + INTERVAL '0.001' SECOND AS stopped_at, (extract(epoch FROM stopped_at) - extract(epoch FROM needed_at)) / 3600 AS lead_hours
FROM warned ORDER BY stopped_at, machine;

-- All in all; an event is false if the machine would not have stopped within three days.
SELECT count(*) AS stops, count(needed_at) AS warned_before, median(lead) AS lead_hours_median, min(lead) AS lead_hours_least,
  (SELECT count(*) FROM maintenance_needed) AS events,
  (SELECT count(*) FROM maintenance_needed AS m WHERE NOT EXISTS (
    SELECT 1 FROM stopped AS s
    WHERE s.machine = m.machine AND s.stopped_at BETWEEN m.needed_at AND m.needed_at + INTERVAL '3' DAY)) AS false_events
FROM (SELECT *, (extract(epoch FROM stopped_at) - extract(epoch FROM needed_at)) / 3600 AS lead FROM warned);
