-- What q14 calls: how often a letter stands in a text.
CREATE FUNCTION count_char(content STRING, letter STRING) RETURNS BIGINT
AS 'CHAR_LENGTH(content) - CHAR_LENGTH(REPLACE(content, letter, ''''))';
