-- An updating GROUP BY over 10,000 keys.
SELECT k, count(*) AS n, sum(v) AS total, max(v) AS most FROM keyed GROUP BY k;
