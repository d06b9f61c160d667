"""Parts of `benchmarks.gateway`: what is polled, who polls it, and where it arrives."""
