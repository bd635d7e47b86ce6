"""Events: recorded with the change they tell of, followed by cursor."""
