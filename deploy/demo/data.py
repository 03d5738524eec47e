"""Writes the demo's SQLite database: the same bytes of data on every run."""

import random
import sqlite3
import sys

REGIONS = ["west", "east", "north", "south"]
CITIES = [("Portland", "OR", "US"), ("Boston", "MA", "US"), ("Toronto", "ON", "CA"), ("Leeds", "WYK", "GB")]


def write(path: str, customers: int = 10_000) -> None:
    """Creates customers, orders, products and employees in a new database at `path`."""
    rng = random.Random(20_24)
    db = sqlite3.connect(path)
    db.executescript("""
        CREATE TABLE customers (id INTEGER PRIMARY KEY, first_name TEXT, last_name TEXT, company TEXT, city TEXT,
            state TEXT, country TEXT, region TEXT, status TEXT, email TEXT, phone TEXT, ssn TEXT, credit_card TEXT,
            date_of_birth TEXT, internal_notes TEXT);
        CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER, product_id INTEGER, quantity INTEGER, region TEXT);
        CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT, price REAL);
        CREATE TABLE employees (id INTEGER PRIMARY KEY, name TEXT, department TEXT, salary INTEGER, ssn TEXT, review TEXT);
    """)
    for i in range(1, customers + 1):
        city, state, country = rng.choice(CITIES)
        db.execute(
            f"INSERT INTO customers VALUES ({','.join('?' * 15)})",
            (i, f"First{i}", f"Last{i}", f"Company {i % 500}", city, state, country, REGIONS[i % 4],
             "active" if rng.random() < 0.8 else "closed", f"person{i}@example.com", f"+1-555-{i:07d}",
             f"{rng.randrange(10**9):09d}", f"4000{rng.randrange(10**12):012d}",
             f"19{rng.randrange(40, 99)}-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d}", f"note {i}"),
        )
    for i in range(1, 2 * customers + 1):
        customer = rng.randrange(1, customers + 1)
        db.execute("INSERT INTO orders VALUES (?,?,?,?,?)",
                   (i, customer, rng.randrange(1, 101), rng.randrange(1, 9), REGIONS[customer % 4]))
    for i in range(1, 101):
        db.execute("INSERT INTO products VALUES (?,?,?)", (i, f"Product {i}", round(rng.uniform(1, 500), 2)))
    for i in range(1, 201):
        db.execute("INSERT INTO employees VALUES (?,?,?,?,?,?)",
                   (i, f"Employee {i}", rng.choice(["hr", "payroll", "sales"]), rng.randrange(40_000, 200_000),
                    f"{rng.randrange(10**9):09d}", rng.choice(["good", "fair"])))
    db.commit()
    db.close()


if __name__ == "__main__":
    write(sys.argv[1])
