-- What the kernel needed once it was put to the test. Statements are separated by blank lines.

-- Every due time is compared with this clock. It is now(), inlined; a test may put another function in its place.
CREATE FUNCTION clock_now() RETURNS TIMESTAMP WITH TIME ZONE LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT now()';
