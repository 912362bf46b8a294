"""What the runs of a sweep or a quickstart found: values with their intervals, comparisons, tables and pictures."""
