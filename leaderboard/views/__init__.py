"""What each page shows: the board and its table in, the names that its template uses out."""
