"""The Switchboard server: composition roots, slices and the four durable primitives."""
