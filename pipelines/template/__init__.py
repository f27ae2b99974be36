"""What `bench new` copies."""
