"""The quickstart: a packaged sweep of several methods on several tasks, whose table the README shows."""
