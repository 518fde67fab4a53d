"""What the sidecar tells about itself: counters, metrics, logs."""
