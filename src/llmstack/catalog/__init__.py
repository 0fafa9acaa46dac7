"""models.toml as data: models, upstreams, routes and client profiles; the shipped file and the user's over it. Pure."""
