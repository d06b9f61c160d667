"""Load for the cloud's benchmarks: records as stations make them, publishers, subscribers to compare with."""
