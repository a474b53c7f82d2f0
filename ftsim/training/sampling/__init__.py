"""The policy as it samples: deployments, rollouts, episodes, rewards, advantages."""
