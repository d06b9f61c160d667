"""Rules, subscriptions and delivery: from an observation over a level to the message on a farmer's phone."""
