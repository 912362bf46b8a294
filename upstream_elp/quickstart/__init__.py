"""Four tasks, several methods, one table: the comparison that the README shows, and its report."""
