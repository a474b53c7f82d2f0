"""HTTP: middleware, the routes of the control plane, the trainer gateway and inference, and the control API."""
