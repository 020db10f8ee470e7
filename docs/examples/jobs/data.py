#!/usr/bin/env python3
"""Data processing: makes a file of orders with mistakes in it, cleans it, and sums it up by country."""

import csv
import random
import sys
from collections import defaultdict

ROWS = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
COUNTRIES = ("de", "es", "fr", "it", "pl")
MISTAKES = ("", "n/a", "-1")

chance = random.Random(2024)
with open("orders.csv", "w", newline="") as file:
    orders = csv.writer(file)
    orders.writerow(("id", "country", "price"))
    for number in range(ROWS):
        price = chance.choice(MISTAKES) if number % 100 == 0 else f"{chance.lognormvariate(3, 1):.2f}"
        orders.writerow((number, chance.choice(COUNTRIES), price))
print(f"wrote {ROWS} orders", flush=True)

prices = defaultdict(list)
dropped = 0
with open("orders.csv", newline="") as file:
    for order in csv.DictReader(file):
        try:
            price = float(order["price"])
        except ValueError:
            price = -1.0
        if price < 0:
            dropped += 1
        else:
            prices[order["country"]].append(price)
print(f"dropped {dropped} orders without a price", flush=True)

for country, paid in sorted(prices.items()):
    paid.sort()
    print(f"{country}: {len(paid)} orders, median {paid[len(paid) // 2]:.2f}, sum {sum(paid):.2f}")
kept = sum(len(paid) for paid in prices.values())
assert kept + dropped == ROWS, f"{ROWS - kept - dropped} orders got lost"
print(f"kept {kept} of {ROWS}")
