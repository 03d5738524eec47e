create table members (id integer primary key, name text, branch text, joined text, email text, fines real);
insert into members values
  (1, 'Ada', 'north', '2023-01-07', 'ada@example.com', 0),
  (2, 'Ben', 'south', '2023-03-15', 'ben@example.com', 4.5),
  (3, 'Cleo', 'north', '2024-02-29', 'cleo@example.com', 0),
  (4, 'Dan', 'north', '2025-11-02', 'dan@example.com', 12);
create table books (id integer primary key, title text, branch text, copies integer);
insert into books values (1, 'Middlemarch', 'north', 2), (2, 'Solaris', 'north', 0), (3, 'Kindred', 'south', 1);
