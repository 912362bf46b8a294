"""The quickstart: several methods on several tasks, compared in one report, which the README shows."""
