#!/usr/bin/env python3
"""Machine learning in plain Python: trains a small network to tell a ring from what is inside, and tests it."""

import math
import random
import sys

EPOCHS = int(sys.argv[1]) if len(sys.argv) > 1 else 40
HIDDEN = 8
RATE = 0.1
GOOD = 0.95

chance = random.Random(7)


def point():
    inside = chance.random() < 0.5
    radius, angle = (
        (chance.uniform(0, 0.7) if inside else chance.uniform(1.0, 1.6)),
        chance.uniform(0, 2 * math.pi),
    )
    return (radius * math.cos(angle), radius * math.sin(angle)), float(inside)


training, testing = [point() for _ in range(600)], [point() for _ in range(300)]
inner = [[chance.gauss(0, 1) for _ in range(3)] for _ in range(HIDDEN)]
outer = [chance.gauss(0, 1) for _ in range(HIDDEN + 1)]


def forward(place):
    x, y = place
    hidden = [math.tanh(a * x + b * y + c) for a, b, c in inner]
    total = outer[-1] + sum(outer[number] * value for number, value in enumerate(hidden))
    return hidden, 1 / (1 + math.exp(-total))


for epoch in range(1, EPOCHS + 1):
    chance.shuffle(training)
    loss = 0.0
    for place, wanted in training:
        hidden, said = forward(place)
        loss -= math.log(max(said if wanted else 1 - said, 1e-12))
        wrong = said - wanted
        for number, value in enumerate(hidden):
            back = wrong * outer[number] * (1 - value * value)
            outer[number] -= RATE * wrong * value
            for weight, given in enumerate((*place, 1.0)):
                inner[number][weight] -= RATE * back * given
        outer[-1] -= RATE * wrong
    if epoch % 5 == 0:
        print(f"epoch {epoch}: loss {loss / len(training):.4f}", flush=True)

right = sum((forward(place)[1] > 0.5) == bool(wanted) for place, wanted in testing)
accuracy = right / len(testing)
print(f"accuracy {accuracy:.3f} on {len(testing)} points that it had not seen")
sys.exit(accuracy < GOOD)
