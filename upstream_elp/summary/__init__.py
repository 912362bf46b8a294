"""The report of a sweep: values with their intervals, comparisons, tables and pictures, on one page."""
