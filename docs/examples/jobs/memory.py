#!/usr/bin/env python3
"""Takes memory in steps, writes to every page of it, and says what the kernel counted."""

import sys

MEBIBYTES = int(sys.argv[1]) if len(sys.argv) > 1 else 96
STEP = 16
PAGE = 4096


def resident_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE // 2**20


taken = []
before = resident_mib()
for done in range(STEP, MEBIBYTES + 1, STEP):
    block = bytearray(STEP << 20)
    for page in range(0, len(block), PAGE):
        block[page] = 1
    taken.append(block)
    print(f"took {done} MiB, {resident_mib()} MiB resident", flush=True)
grown = resident_mib() - before
print(f"grew by {grown} MiB")
sys.exit(grown < MEBIBYTES * 0.9)
