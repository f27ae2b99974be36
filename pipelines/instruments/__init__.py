"""What the referee measures with."""
