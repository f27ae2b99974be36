"""Number formats: what each group of weights is stored and computed in."""
