"""Intent classification on Fluent Speech Commands: action, object and location."""
