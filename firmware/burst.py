# Several readings taken one after the other for one sample: the median puts spikes out (bubbles, weed in front of a
# turbidity probe), the mean evens out noise. Pure, and only loaded where a sensor is read in bursts.


def median(counts):
    # Of whole counts, None where a reading is missing; None when most are: half a burst proves nothing.
    there = sorted([count for count in counts if count is not None])
    if 2 * len(there) <= len(counts):
        return None
    middle = len(there) // 2
    return there[middle] if len(there) % 2 else (there[middle - 1] + there[middle] + 1) // 2


def mean(counts):
    # Of the readings that are there, rounded to the nearest count; None when most are missing.
    there = [count for count in counts if count is not None]
    number = len(there)
    return None if 2 * number <= len(counts) else (2 * sum(there) + number) // (2 * number)
