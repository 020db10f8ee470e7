#!/usr/bin/env python3
"""Work for a CPU: counts the primes below a limit, once with a sieve and once by division, and compares."""

import sys
import time

LIMIT = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
PARTS = 4

began = time.perf_counter()
sieve = bytearray([1]) * LIMIT
sieve[:2] = b"\0\0"
for number in range(2, int(LIMIT**0.5) + 1):
    if sieve[number]:
        sieve[number * number :: number] = bytes(len(range(number * number, LIMIT, number)))
by_sieve = sum(sieve)
print(f"{by_sieve} primes below {LIMIT} by sieve, {time.perf_counter() - began:.2f} s", flush=True)

began = time.perf_counter()
small = [number for number in range(2, int(LIMIT**0.5) + 1) if sieve[number]]
by_division = 0
for part in range(PARTS):
    for number in range(max(2, part * LIMIT // PARTS), (part + 1) * LIMIT // PARTS):
        for divisor in small:
            if divisor * divisor > number:
                by_division += 1
                break
            if number % divisor == 0:
                break
        else:
            by_division += 1
    print(f"part {part + 1} of {PARTS}: {by_division} primes so far", flush=True)
print(f"{by_division} primes by division, {time.perf_counter() - began:.2f} s of one core")
sys.exit(by_sieve != by_division)
