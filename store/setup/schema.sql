-- For sqlc, which reads the tables from here and from the migrations: what
-- store/setup/record.go makes before the first of them.
create schema freshet;
