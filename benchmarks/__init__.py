"""Performance promises, as ratios against the same work done by hand in the same run."""
